{{/*
Monitoring of this release. All our series have the labels `namespace` and `release`, by which rules and dashboards
distinguish releases. Prometheus adds `namespace`; our PodMonitors add `release`.
*/}}

{{/* hitcounter.monitoring.dashboards (root): name and text of each dashboard. Not rendered with `tpl`:
legends contain braces. */}}
{{- define "hitcounter.monitoring.dashboards" -}}
{{- range $path, $_ := .Files.Glob "dashboards/*.json" }}
{{ base $path }}: {{ $.Files.Get $path | replace "docs/runbook.md" $.Values.monitoring.runbookUrl | quote }}
{{- end }}
{{- end -}}

{{/* hitcounter.monitoring.rules (root): files/rules, restricted to this release. Not rendered with `tpl`:
alerts contain braces. */}}
{{- define "hitcounter.monitoring.rules" -}}
{{- $indexer := include "hitcounter.name" (dict "root" . "component" "indexer") -}}
{{- $release := printf "namespace=%q,release=%q" .Release.Namespace .Release.Name -}}
{{- $names := append (list (printf "(keda-hpa-)?%s" $indexer)) .Values.autoscaling.keda.takeOverHpa | compact | join "|" -}}
{{- $scaler := printf "namespace=%q,horizontalpodautoscaler=~%q" .Release.Namespace $names -}}
{{- $api := printf "namespace=%q,deployment=%q" .Release.Namespace (include "hitcounter.name" (dict "root" . "component" "api")) -}}
{{- range $path, $_ := .Files.Glob "files/rules/*.yaml" -}}
{{- $text := $.Files.Get $path | replace `release=~".*"` $release | replace `horizontalpodautoscaler=~".*-indexer"` $scaler -}}
{{- $text = $text | replace `deployment=~".*-api"` $api -}}
{{- $text = $text | replace "dashboard_url: /d/" (printf "dashboard_url: %s/d/" (trimSuffix "/" $.Values.monitoring.rules.grafanaUrl)) -}}
{{- $text | replace "runbook_url: docs/runbook.md" (printf "runbook_url: %s" $.Values.monitoring.runbookUrl) | fromYaml | toYaml -}}
{{- end -}}
{{- end -}}
