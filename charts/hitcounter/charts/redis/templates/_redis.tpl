{{/* redis.authSecret (root of this chart): the Secret with the passwords. */}}
{{- define "redis.authSecret" -}}
{{- .Values.auth.existingSecret | default (printf "%s-auth" (include "redis.fullname" .)) -}}
{{- end -}}

{{/* redis.maxmemoryBytes (root of this chart): the share of the memory limit. Without a proper limit the chart is
refused anyway (the parent's validate.yaml), but not by a template error here. */}}
{{- define "redis.maxmemoryBytes" -}}
{{- $limit := dig "limits" "memory" "0" (.Values.resources | default dict) | toString -}}
{{- $units := dict "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $unit := regexFind "[A-Za-z]*$" $limit -}}
{{- mulf (trimSuffix $unit $limit | float64) (get $units $unit | default 1) (divf .Values.maxmemoryPercent 100) | floor | int64 -}}
{{- end -}}

{{/* redis.users (root of this chart): who may do what, from files/users.yaml. An `optional` user is there if there is
a password for it: no Secret made for an installation without it needs to have one. */}}
{{- define "redis.users" -}}
{{- range $name, $rules := .Files.Get "files/users.yaml" | replace "{prefix}" (printf "{%s}" .Values.auth.prefix) | fromYaml }}
{{ $name }}:
  optional: {{ eq $name "operator" }}
  rules: {{ $rules | quote }}
{{- end }}
{{- end -}}
