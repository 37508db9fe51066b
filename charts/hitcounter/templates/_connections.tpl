{{/*
Connections to Redis and Elasticsearch: addresses, users, passwords, CA certificates. All templates that connect to a
store, or allow a connection to it, use these helpers. The helpers take the chart's root context; those marked "part"
take a dict with `root` and `component`.
*/}}

{{/* hitcounter.redis.config (root): non-secret environment variables, as YAML. */}}
{{- define "hitcounter.redis.config" -}}
{{- $external := .Values.externalRedis -}}
{{- if .Values.redis.enabled -}}
HITCOUNTER_REDIS__URL: {{ printf "redis://%s:6379/0" (include "redis.fullname" .Subcharts.redis) | quote }}
{{- else -}}
{{- $scheme := ternary "rediss" "redis" $external.tls.enabled -}}
{{- $host := $external.host | default $external.sentinel.masterName -}}
{{- if and (contains ":" $host) (not (hasPrefix "[" $host)) -}}
{{- $host = printf "[%s]" $host -}}
{{- end -}}
HITCOUNTER_REDIS__URL: {{ printf "%s://%s:%d/%d" $scheme $host (int $external.port) (int $external.database) | quote }}
{{- with $external.username }}
HITCOUNTER_REDIS__USERNAME: {{ . | quote }}
{{- end }}
{{- if $external.tls.caSecret }}
HITCOUNTER_REDIS__CA_FILE: {{ printf "/etc/hitcounter/redis/%s" $external.tls.caKey }}
{{- end }}
{{- if $external.trustMemoryPolicy }}
HITCOUNTER_REDIS__TRUST_MEMORY_POLICY: "true"
{{- end }}
{{- if $external.tls.clientSecret }}
HITCOUNTER_REDIS__CERT_FILE: /etc/hitcounter/redis-client/tls.crt
HITCOUNTER_REDIS__KEY_FILE: /etc/hitcounter/redis-client/tls.key
{{- end }}
{{- if $external.sentinel.nodes }}
HITCOUNTER_REDIS__SENTINELS: {{ join "," $external.sentinel.nodes | quote }}
HITCOUNTER_REDIS__SENTINEL_MASTER: {{ $external.sentinel.masterName | quote }}
{{- with $external.sentinel.username }}
HITCOUNTER_REDIS__SENTINEL_USERNAME: {{ . | quote }}
{{- end }}
{{- end }}
{{- end -}}
{{- end -}}

{{/* hitcounter.redis.secrets (part): environment variables from Secrets, as a YAML list. The bundled Redis has a user for
each component. */}}
{{- define "hitcounter.redis.secrets" -}}
{{- $external := .root.Values.externalRedis -}}
{{- if .root.Values.redis.enabled -}}
{{- if .root.Values.redis.auth.enabled }}
- name: HITCOUNTER_REDIS__USERNAME
  value: {{ .component }}
{{ include "hitcounter.secretVariable" (dict "name" "HITCOUNTER_REDIS__PASSWORD" "secret" (include "redis.authSecret" .root.Subcharts.redis) "key" (printf "%s-password" .component)) }}
{{- end }}
{{- else -}}
{{- $secret := $external.existingSecret | default (include "hitcounter.storesSecret" .root) -}}
{{- if $external.existingSecret }}
{{ include "hitcounter.secretVariable" (dict "name" "HITCOUNTER_REDIS__PASSWORD" "secret" $secret "key" $external.passwordKey) }}
{{- else if $external.password }}
{{ include "hitcounter.secretVariable" (dict "name" "HITCOUNTER_REDIS__PASSWORD" "secret" $secret "key" "redis-password") }}
{{- end }}
{{- with $external.sentinel.passwordKey }}
{{ include "hitcounter.secretVariable" (dict "name" "HITCOUNTER_REDIS__SENTINEL_PASSWORD" "secret" $secret "key" .) }}
{{- end }}
{{- end -}}
{{- end -}}

{{/* hitcounter.elasticsearch.config (root): non-secret environment variables, as YAML. */}}
{{- define "hitcounter.elasticsearch.config" -}}
{{- $external := .Values.externalElasticsearch -}}
{{- if .Values.elasticsearch.enabled -}}
{{- $bundled := .Values.elasticsearch -}}
{{- $scheme := ternary "https" "http" (ne $bundled.tls.existingSecret "") -}}
HITCOUNTER_ELASTICSEARCH__URL: {{ printf "%s://%s:9200" $scheme (include "elasticsearch.fullname" .Subcharts.elasticsearch) | quote }}
{{- if $bundled.security.enabled }}
HITCOUNTER_ELASTICSEARCH__USERNAME: elastic
{{- end }}
{{- if $bundled.tls.existingSecret }}
HITCOUNTER_ELASTICSEARCH__CA_FILE: /etc/hitcounter/elasticsearch/ca.crt
{{- end }}
{{- else -}}
HITCOUNTER_ELASTICSEARCH__URL: {{ join "," $external.urls | quote }}
{{- if eq $external.authentication "basic" }}
HITCOUNTER_ELASTICSEARCH__USERNAME: {{ $external.username | quote }}
{{- end }}
{{- if $external.caSecret }}
HITCOUNTER_ELASTICSEARCH__CA_FILE: {{ printf "/etc/hitcounter/elasticsearch/%s" $external.caKey }}
{{- end }}
{{- if $external.clientSecret }}
HITCOUNTER_ELASTICSEARCH__CERT_FILE: /etc/hitcounter/elasticsearch-client/tls.crt
HITCOUNTER_ELASTICSEARCH__KEY_FILE: /etc/hitcounter/elasticsearch-client/tls.key
{{- end }}
{{- end -}}
{{- end -}}

{{/* hitcounter.elasticsearch.secrets (root): environment variables from Secrets, as a YAML list. */}}
{{- define "hitcounter.elasticsearch.secrets" -}}
{{- $external := .Values.externalElasticsearch -}}
{{- $secret := $external.existingSecret | default (include "hitcounter.storesSecret" .) -}}
{{- if .Values.elasticsearch.enabled -}}
{{- if .Values.elasticsearch.security.enabled -}}
{{- include "hitcounter.secretVariable" (dict "name" "HITCOUNTER_ELASTICSEARCH__PASSWORD" "secret" (include "elasticsearch.passwordSecret" .Subcharts.elasticsearch) "key" .Values.elasticsearch.security.passwordKey) -}}
{{- end -}}
{{- else if eq $external.authentication "basic" -}}
{{- include "hitcounter.secretVariable" (dict "name" "HITCOUNTER_ELASTICSEARCH__PASSWORD" "secret" $secret "key" (ternary $external.passwordKey "elasticsearch-password" (ne $external.existingSecret ""))) -}}
{{- else if eq $external.authentication "apiKey" -}}
{{- include "hitcounter.secretVariable" (dict "name" "HITCOUNTER_ELASTICSEARCH__API_KEY" "secret" $secret "key" (ternary $external.apiKeyKey "elasticsearch-api-key" (ne $external.existingSecret ""))) -}}
{{- end -}}
{{- end -}}

{{/* hitcounter.secretVariable (dict: name, secret, key; optional: `optional`) */}}
{{- define "hitcounter.secretVariable" -}}
- name: {{ .name }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret }}
      key: {{ .key }}
      {{- if .optional }}
      optional: true
      {{- end }}
{{- end -}}

{{/* hitcounter.storesSecret.data (root): the passwords in the values, as YAML; empty if there are none. */}}
{{- define "hitcounter.storesSecret.data" -}}
{{- $redis := .Values.externalRedis -}}
{{- $elasticsearch := .Values.externalElasticsearch -}}
{{- if and (not .Values.redis.enabled) $redis.password (not $redis.existingSecret) }}
redis-password: {{ $redis.password | quote }}
{{- end }}
{{- if and (not .Values.elasticsearch.enabled) (not $elasticsearch.existingSecret) }}
{{- if eq $elasticsearch.authentication "basic" }}
elasticsearch-password: {{ $elasticsearch.password | quote }}
{{- else if eq $elasticsearch.authentication "apiKey" }}
elasticsearch-api-key: {{ $elasticsearch.apiKey | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* hitcounter.yourSecrets (root): the Secrets that the user must create, comma-separated. */}}
{{- define "hitcounter.yourSecrets" -}}
{{- $names := list -}}
{{- if .Values.redis.enabled -}}
{{- $names = append $names (ternary .Values.redis.auth.existingSecret "" .Values.redis.auth.enabled) -}}
{{- else -}}
{{- $names = concat $names (list .Values.externalRedis.existingSecret .Values.externalRedis.tls.caSecret .Values.externalRedis.tls.clientSecret) -}}
{{- end -}}
{{- if .Values.elasticsearch.enabled -}}
{{- $names = concat $names (list .Values.elasticsearch.security.existingSecret .Values.elasticsearch.tls.existingSecret) -}}
{{- else -}}
{{- $names = concat $names (list .Values.externalElasticsearch.existingSecret .Values.externalElasticsearch.caSecret .Values.externalElasticsearch.clientSecret) -}}
{{- end -}}
{{- $names | compact | uniq | join ", " -}}
{{- end -}}

{{/* hitcounter.authorities (root): a dict, as YAML, that maps each store to the Secret with its CA certificate. */}}
{{- define "hitcounter.authorities" -}}
{{- if and (not .Values.redis.enabled) .Values.externalRedis.tls.caSecret }}
redis: {{ .Values.externalRedis.tls.caSecret }}
{{- end }}
{{- if .Values.elasticsearch.enabled }}
{{- with .Values.elasticsearch.tls.existingSecret }}
elasticsearch: {{ . }}
{{- end }}
{{- else }}
{{- with .Values.externalElasticsearch.caSecret }}
elasticsearch: {{ . }}
{{- end }}
{{- end }}
{{- end -}}

{{/* hitcounter.clientCertificates (root): a dict, as YAML, that maps each store to the Secret with our client certificate. */}}
{{- define "hitcounter.clientCertificates" -}}
{{- if not .Values.redis.enabled }}
{{- with .Values.externalRedis.tls.clientSecret }}
redis: {{ . }}
{{- end }}
{{- end }}
{{- if not .Values.elasticsearch.enabled }}
{{- with .Values.externalElasticsearch.clientSecret }}
elasticsearch: {{ . }}
{{- end }}
{{- end }}
{{- end -}}

{{/* hitcounter.authorityKey (dict: root, store): the key of the CA certificate in that Secret. Only this key is
mounted, because the Secret of the bundled Elasticsearch also contains its private key. */}}
{{- define "hitcounter.authorityKey" -}}
{{- if eq .store "redis" -}}
{{- .root.Values.externalRedis.tls.caKey -}}
{{- else -}}
{{- ternary "ca.crt" .root.Values.externalElasticsearch.caKey .root.Values.elasticsearch.enabled -}}
{{- end -}}
{{- end -}}

{{/* hitcounter.redis.ports, hitcounter.elasticsearch.ports (root): the ports for egress rules, comma-separated. */}}
{{- define "hitcounter.redis.ports" -}}
{{- $external := .Values.externalRedis -}}
{{- $ports := list (int $external.port) -}}
{{- range $external.sentinel.nodes -}}
{{- $ports = append $ports (splitList ":" . | last | int) -}}
{{- end -}}
{{- $ports | uniq | join "," -}}
{{- end -}}
{{- define "hitcounter.elasticsearch.ports" -}}
{{- $ports := list -}}
{{- range .Values.externalElasticsearch.urls -}}
{{- $url := urlParse . -}}
{{- $port := regexFind ":[0-9]+$" $url.host | trimPrefix ":" -}}
{{- $ports = append $ports ($port | default (ternary "443" "80" (eq $url.scheme "https"))) -}}
{{- end -}}
{{- $ports | uniq | join "," -}}
{{- end -}}
