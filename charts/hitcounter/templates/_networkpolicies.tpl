{{/*
NetworkPolicies. Each policy denies all connections that it does not list. Each connection between our components is
allowed on both ends, by the same helpers.
*/}}

{{/* hitcounter.egress (part; `redis`, `elasticsearch`, `api`, `kubernetes`: true for each that the component calls) */}}
{{- define "hitcounter.egress" -}}
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- if .redis }}
{{- if .root.Values.redis.enabled }}
- to:
    - podSelector:
        matchLabels:
          {{- include "hitcounter.selectorLabels" (dict "root" .root "component" "redis") | nindent 10 }}
  ports:
    - {port: 6379, protocol: TCP}
{{- else }}
- ports:
    {{- range splitList "," (include "hitcounter.redis.ports" .root) }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
{{- end }}
{{- end }}
{{- if .elasticsearch }}
{{- if .root.Values.elasticsearch.enabled }}
- to:
    - podSelector:
        matchLabels:
          {{- include "hitcounter.selectorLabels" (dict "root" .root "component" "elasticsearch") | nindent 10 }}
  ports:
    - {port: 9200, protocol: TCP}
{{- else }}
- ports:
    {{- range splitList "," (include "hitcounter.elasticsearch.ports" .root) }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
{{- end }}
{{- end }}
{{- if .api }}
- to:
    - podSelector:
        matchLabels:
          {{- include "hitcounter.selectorLabels" (dict "root" .root "component" "api") | nindent 10 }}
  ports:
    - {port: 8001, protocol: TCP}
{{- end }}
{{- if .kubernetes }}
{{- /* By port only, because a chart cannot know the addresses of the API servers. */}}
- ports:
    {{- range .root.Values.networkPolicy.kubernetesPorts }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
{{- end }}
{{- with .root.Values.networkPolicy.extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* hitcounter.peers (dict: root, components): the pods of these components, as a list of peers. */}}
{{- define "hitcounter.peers" -}}
{{- $root := .root -}}
{{- range .components }}
- podSelector:
    matchLabels:
      {{- include "hitcounter.selectorLabels" (dict "root" $root "component" .) | nindent 6 }}
{{- end }}
{{- end -}}
