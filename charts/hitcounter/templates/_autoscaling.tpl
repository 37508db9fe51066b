{{/*
The number of indexers: the formula as a Prometheus query, and a simpler form without the arrival rate (hits per indexer).

    desired = ( arrival · (1/u + start/T) + backlog/T ) / μ

arrival  hits accepted per second            u      target share of its time that an indexer is busy
backlog  hits accepted and not settled       T      target time to drain a backlog, in seconds
μ        hits settled per busy second        start  seconds until a new indexer processes hits
*/}}

{{/* hitcounter.scaling.selector (root): selects the series of this installation. */}}
{{- define "hitcounter.scaling.selector" -}}
{{- .Values.autoscaling.keda.prometheus.selector | default (printf "namespace=%q,pod=~\"%s-(api|indexer)-.+\"" .Release.Namespace (include "hitcounter.fullname" .)) -}}
{{- end -}}

{{/* hitcounter.scaling.query (root): the desired number of indexers.
- Every process exposes the same backlog, so use max, never sum. The API exposes it even if there are no indexers.
- There is no `or vector(0)` around arrival and backlog: if they are unknown, the query must return nothing, and KEDA
  keeps the current number of indexers.
- The query also returns nothing while Redis is unavailable. The backlog is then missing or NaN, and `>= 0` filters out
  NaN. If at least one process still reads the backlog, its value is used.
- μ is measured per busy second, so idle time does not lower it. With no work it is 0/0 = NaN, which `> 0` filters out;
  the query then uses the last known value, or the configured value if there has never been one.
- If Elasticsearch rejects more than 1 % of the documents because it is overloaded, more indexers would increase the
  overload. The query then returns the current number of indexers until Elasticsearch can keep up again. Rejections by a
  closed or read-only index do not count. */}}
{{- define "hitcounter.scaling.query" -}}
{{- $selector := include "hitcounter.scaling.selector" . -}}
{{- $formula := .Values.autoscaling.formula -}}
{{- $rate := printf "sum(rate(hitcounter_settled_hits_total{%s}[5m])) / sum(rate(hitcounter_busy_seconds_total{%s}[5m])) > 0" $selector $selector -}}
(
  count(hitcounter_busy_seconds_total{ {{- $selector -}} })
  and on() sum(rate(hitcounter_retried_documents_total{ {{- $selector -}} }[1m])) > 0.01 * sum(rate(hitcounter_settled_hits_total{ {{- $selector -}} }[1m]))
)
or
(
  sum(rate(hitcounter_accepted_hits_total{ {{- $selector -}} }[1m])) * (1 / {{ $formula.targetUtilization }} + {{ $formula.startSeconds }} / {{ $formula.drainTargetSeconds }})
  + max(hitcounter_backlog_hits{ {{- $selector -}} } >= 0) / {{ $formula.drainTargetSeconds }}
)
/ (
  ({{ $rate }})
  or last_over_time(({{ $rate }})[6h:1m])
  or vector({{ int64 $formula.hitsPerBusySecond }})
)
{{- end -}}

{{/* hitcounter.scaling.kedaAsksTheOperator (root): "true" or empty. */}}
{{- define "hitcounter.scaling.kedaAsksTheOperator" -}}
{{- if and .Values.operator.enabled (eq .Values.autoscaling.mode "keda") (eq .Values.autoscaling.keda.source "operator") -}}
true
{{- end -}}
{{- end -}}

{{/* hitcounter.scaling.hitsPerIndexer (root): hits that one indexer settles within drainTargetSeconds. */}}
{{- define "hitcounter.scaling.hitsPerIndexer" -}}
{{- mul (int64 .Values.autoscaling.formula.hitsPerBusySecond) (int64 .Values.autoscaling.formula.drainTargetSeconds) -}}
{{- end -}}

{{/* hitcounter.scaling.trigger (root): type and metadata of KEDA's trigger. */}}
{{- define "hitcounter.scaling.trigger" -}}
{{- $keda := .Values.autoscaling.keda -}}
{{- $metadata := dict -}}
{{- if eq $keda.source "prometheus" -}}
{{- /* An empty result is an error and triggers the fallback. By default KEDA would read it as 0. */ -}}
{{- $metadata = dict "serverAddress" $keda.prometheus.serverAddress "query" (include "hitcounter.scaling.query" .) "threshold" "1" "activationThreshold" "0" "ignoreNullValues" "false" -}}
{{- if ne $keda.prometheus.authentication "none" -}}
{{- $_ := set $metadata "authModes" $keda.prometheus.authentication -}}
{{- end -}}
{{- else if eq $keda.source "operator" -}}
{{- $url := printf "http://%s.%s:8083/v1/scale/%s/%s" (include "hitcounter.name" (dict "root" . "component" "operator")) .Release.Namespace .Release.Namespace (include "hitcounter.fullname" .) -}}
{{- $metadata = dict "url" $url "format" "json" "valueLocation" "desiredReplicas" "targetValue" "1" "activationTargetValue" "0" -}}
{{- else -}}
{{- $url := printf "http://%s.%s:%d/status" (include "hitcounter.name" (dict "root" . "component" "api")) .Release.Namespace (int .Values.api.service.port) -}}
{{- $metadata = dict "url" $url "format" "json" "valueLocation" "backlog" "targetValue" (include "hitcounter.scaling.hitsPerIndexer" .) "activationTargetValue" "0" -}}
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
