{{/* elasticsearch.passwordSecret (root of this chart) */}}
{{- define "elasticsearch.passwordSecret" -}}
{{- .Values.security.existingSecret | default (printf "%s-auth" (include "elasticsearch.fullname" .)) -}}
{{- end -}}

{{/* elasticsearch.nodesService (root of this chart): the headless Service for node discovery. */}}
{{- define "elasticsearch.nodesService" -}}
{{- printf "%s-nodes" (include "elasticsearch.fullname" .) -}}
{{- end -}}

{{/* elasticsearch.settings (root of this chart): elasticsearch.yml, as a dict of dotted setting names. */}}
{{- define "elasticsearch.settings" -}}
{{- $name := include "elasticsearch.fullname" . -}}
{{- $certificates := "/usr/share/elasticsearch/config/certificates" -}}
cluster.name: {{ $name }}
network.host: 0.0.0.0
readiness.port: "9400"
node.store.allow_mmap: {{ .Values.allowMmap | quote }}
{{- if eq (int .Values.replicas) 1 }}
discovery.type: single-node
{{- else }}
discovery.seed_hosts: {{ include "elasticsearch.nodesService" . }}
# Read at the very first start only; a node that finds a cluster joins that.
cluster.initial_master_nodes: {{ range $i := until (int .Values.replicas) }}{{ if $i }},{{ end }}{{ $name }}-{{ $i }}{{ end }}
{{- end }}
xpack.security.enabled: {{ .Values.security.enabled | quote }}
{{- if .Values.tls.existingSecret }}
{{- range list "http" "transport" }}
xpack.security.{{ . }}.ssl.enabled: "true"
xpack.security.{{ . }}.ssl.certificate: {{ $certificates }}/tls.crt
xpack.security.{{ . }}.ssl.key: {{ $certificates }}/tls.key
xpack.security.{{ . }}.ssl.certificate_authorities: {{ $certificates }}/ca.crt
{{- end }}
# Every node with a certificate from this CA is trusted, whatever its current address is.
xpack.security.transport.ssl.verification_mode: certificate
{{- end }}
{{- range $name, $value := .Values.extraSettings }}
{{ $name }}: {{ ternary $value (toJson $value) (kindIs "string" $value) | quote }}
{{- end }}
{{- end -}}
