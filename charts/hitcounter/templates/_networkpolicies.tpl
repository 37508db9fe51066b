{{/*
Who may speak to whom. Each policy denies what it does not name, and each of our own edges is named on both of its
ends, out of the same helpers.
*/}}

{{/* hitcounter.egress (part; `redis`, `elasticsearch`, `api`, `indexers`, `kubernetes`: true for each that it calls) */}}
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
{{- if .indexers }}
- to:
    {{- include "hitcounter.peers" (dict "root" .root "components" (list "indexer")) | trim | nindent 4 }}
  ports:
    - {port: 8082, protocol: TCP}
{{- end }}
{{- if .kubernetes }}
{{- /* By its ports: which addresses it has, a chart cannot know. */}}
- ports:
    {{- range .root.Values.networkPolicy.kubernetesPorts }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
{{- end }}
{{- with .root.Values.networkPolicy.extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* hitcounter.peers (dict: root, components): our own pods of these components, as a list of peers. */}}
{{- define "hitcounter.peers" -}}
{{- $root := .root -}}
{{- range .components }}
- podSelector:
    matchLabels:
      {{- include "hitcounter.selectorLabels" (dict "root" $root "component" .) | nindent 6 }}
{{- end }}
{{- end -}}
