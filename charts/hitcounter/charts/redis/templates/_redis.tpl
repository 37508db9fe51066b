{{/* redis.authSecret (root of this chart): the Secret with the passwords. */}}
{{- define "redis.authSecret" -}}
{{- .Values.auth.existingSecret | default (printf "%s-auth" (include "redis.fullname" .)) -}}
{{- end -}}

{{/* redis.maxmemoryBytes (root of this chart): maxmemoryPercent of the memory limit. Without a valid limit,
validate.yaml of the parent chart rejects the values; here it must not cause a template error. */}}
{{- define "redis.maxmemoryBytes" -}}
{{- $limit := dig "limits" "memory" "0" (.Values.resources | default dict) | toString -}}
{{- $units := dict "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $unit := regexFind "[A-Za-z]*$" $limit -}}
{{- mulf (trimSuffix $unit $limit | float64) (get $units $unit | default 1) (divf .Values.maxmemoryPercent 100) | floor | int64 -}}
{{- end -}}

{{/* redis.users (root of this chart): users and their permissions, from files/users.yaml. An `optional` user is created
only if its password exists, so a Secret for an installation without that component does not need it. */}}
{{- define "redis.users" -}}
{{- range $name, $rules := .Files.Get "files/users.yaml" | replace "{prefix}" (printf "{%s}" .Values.auth.prefix) | fromYaml }}
{{ $name }}:
  optional: {{ eq $name "operator" }}
  rules: {{ $rules | quote }}
{{- end }}
{{- end -}}
