{{/*
What is seen of this release. Every series of ours has the labels `namespace` and `release`, by which rules and dashboards
tell releases apart: Prometheus adds the first, our PodMonitors the second.
*/}}

{{/* hitcounter.monitoring.dashboards (root): name and text of each dashboard. No `tpl`: legends have braces of their own. */}}
{{- define "hitcounter.monitoring.dashboards" -}}
{{- range $path, $_ := .Files.Glob "dashboards/*.json" }}
{{ base $path }}: {{ $.Files.Get $path | replace "docs/runbook.md" $.Values.monitoring.runbookUrl | quote }}
{{- end }}
{{- end -}}

{{/* hitcounter.monitoring.rules (root): files/rules, narrowed to this release. No `tpl`: alerts have braces of their own. */}}
{{- define "hitcounter.monitoring.rules" -}}
{{- $indexer := include "hitcounter.name" (dict "root" . "component" "indexer") -}}
{{- $release := printf "namespace=%q,release=%q" .Release.Namespace .Release.Name -}}
{{- $scaler := printf "namespace=%q,horizontalpodautoscaler=~\"(keda-hpa-)?%s\"" .Release.Namespace $indexer -}}
{{- range $path, $_ := .Files.Glob "files/rules/*.yaml" -}}
{{- $text := $.Files.Get $path | replace `release=~".*"` $release | replace `horizontalpodautoscaler=~".*-indexer"` $scaler -}}
{{- $text = $text | replace "dashboard_url: /d/" (printf "dashboard_url: %s/d/" (trimSuffix "/" $.Values.monitoring.rules.grafanaUrl)) -}}
{{- $text | replace "runbook_url: docs/runbook.md" (printf "runbook_url: %s" $.Values.monitoring.runbookUrl) | fromYaml | toYaml -}}
{{- end -}}
{{- end -}}
