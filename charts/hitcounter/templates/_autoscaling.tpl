{{/*
KEDA's trigger. The API computes the number of indexers wanted and shows it as hitcounter_indexers_wanted in its metrics
and as indexers_wanted in /status; docs/autoscaling.md has the formula.
*/}}

{{/* hitcounter.scaling.selector (root): selects the series of this installation's APIs. */}}
{{- define "hitcounter.scaling.selector" -}}
{{- .Values.autoscaling.keda.prometheus.selector | default (printf "namespace=%q,pod=~\"%s-api-.+\"" .Release.Namespace (include "hitcounter.fullname" .)) -}}
{{- end -}}

{{/* hitcounter.scaling.trigger (root): type and metadata of KEDA's trigger. Every API shows the same number, so the query
takes the max, never the sum. While the number is unknown there is no series, and /status has null: for KEDA both are
errors, and it uses its fallback. */}}
{{- define "hitcounter.scaling.trigger" -}}
{{- $keda := .Values.autoscaling.keda -}}
{{- $metadata := dict -}}
{{- if eq $keda.source "prometheus" -}}
{{- $query := printf "max(hitcounter_indexers_wanted{%s})" (include "hitcounter.scaling.selector" .) -}}
{{- /* Without ignoreNullValues KEDA would read an empty result as 0. */ -}}
{{- $metadata = dict "serverAddress" $keda.prometheus.serverAddress "query" $query "threshold" "1" "activationThreshold" "0" "ignoreNullValues" "false" -}}
{{- if ne $keda.prometheus.authentication "none" -}}
{{- $_ := set $metadata "authModes" $keda.prometheus.authentication -}}
{{- end -}}
{{- else -}}
{{- $url := printf "http://%s.%s:%d/status" (include "hitcounter.name" (dict "root" . "component" "api")) .Release.Namespace (int .Values.api.service.port) -}}
{{- $metadata = dict "url" $url "format" "json" "valueLocation" "indexers_wanted" "targetValue" "1" "activationTargetValue" "0" -}}
{{- end -}}
type: {{ ternary "prometheus" "metrics-api" (eq $keda.source "prometheus") }}
metadata:
{{- range $name, $value := mergeOverwrite $metadata $keda.triggerMetadata }}
{{ dict $name (toString $value) | toYaml | indent 2 }}
{{- end }}
{{- end -}}

{{/* hitcounter.scaling.authenticationRef (root): the object with KEDA's credentials, as YAML; empty if there is none. */}}
{{- define "hitcounter.scaling.authenticationRef" -}}
{{- with .Values.autoscaling.keda -}}
{{- if .authenticationRef.name -}}
{{- toYaml .authenticationRef -}}
{{- else if and (eq .source "prometheus") (ne .prometheus.authentication "none") -}}
name: {{ include "hitcounter.name" (dict "root" $ "component" "prometheus") }}
{{- end -}}
{{- end -}}
{{- end -}}
