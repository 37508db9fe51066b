{{/*
Common parts of the pods of our components. "part" is a dict with `root`, `component` (api, indexer or operator) and
`values`, the section of the values with the pod's settings.
*/}}

{{/* hitcounter.configData (part): all non-secret environment variables of the component, as YAML. */}}
{{- define "hitcounter.configData" -}}
{{- $root := .root -}}
{{- $sections := deepCopy $root.Values.config -}}
{{- $_ := set $sections "index" (mergeOverwrite (fromYaml (include "hitcounter.indexDefaults" $root)) $sections.index) -}}
{{- if eq .component "api" -}}
{{- $_ := unset $sections "index" -}}
{{- $_ := set $sections "http" (dict "host" $root.Values.bindAddress) -}}
{{- $scaling := dict -}}
{{- range $name, $value := $root.Values.autoscaling.formula -}}
{{- $_ := set $scaling (snakecase $name) $value -}}
{{- end -}}
{{- $_ := set $sections "scaling" $scaling -}}
{{- end -}}
{{- if eq .component "operator" -}}
{{- $_ := unset $sections "tracing" -}}
{{- $_ := set $sections "operator" (dict "namespace" $root.Release.Namespace "name" (include "hitcounter.fullname" $root)) -}}
{{- end -}}
{{- $_ := set $sections "management" (dict "host" $root.Values.bindAddress) -}}
{{- $sections = mergeOverwrite $sections (deepCopy (index $root.Values .component).config) -}}
{{- range $section, $fields := $sections -}}
{{- range $field, $value := $fields }}
{{ printf "HITCOUNTER_%s__%s" $section $field | upper }}: {{ ternary $value (toJson $value) (kindIs "string" $value) | quote }}
{{- end -}}
{{- end }}
{{ include "hitcounter.redis.config" $root }}
{{ include "hitcounter.elasticsearch.config" $root }}
{{- end -}}

{{/* hitcounter.indexDefaults (root): a single node cannot allocate replica shards. */}}
{{- define "hitcounter.indexDefaults" -}}
{{- if and .Values.elasticsearch.enabled (eq (int .Values.elasticsearch.replicas) 1) -}}
replicas: 0
{{- end -}}
{{- end -}}

{{/* hitcounter.podMetadata (part): labels and annotations of a pod template. The checksums change with the settings. */}}
{{- define "hitcounter.podMetadata" -}}
labels:
  {{- include "hitcounter.podLabels" . | nindent 2 }}
  {{- with .values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  checksum/config: {{ include "hitcounter.configData" . | sha256sum }}
  checksum/secrets: {{ include "hitcounter.secretChecksum" .root }}
  {{- with merge (dict) .values.podAnnotations .root.Values.global.commonAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* hitcounter.secretChecksum (root): checksum of the passwords in the values. It does not cover existing Secrets, so
restart the pods after you change one of those. */}}
{{- define "hitcounter.secretChecksum" -}}
{{- $bundled := "" -}}
{{- if .Values.redis.enabled -}}
{{- $bundled = toJson .Values.redis.auth -}}
{{- end -}}
{{- if .Values.elasticsearch.enabled -}}
{{- $bundled = print $bundled (toJson .Values.elasticsearch.security) -}}
{{- end -}}
{{- print (include "hitcounter.storesSecret.data" .) $bundled | sha256sum -}}
{{- end -}}

{{/* hitcounter.podSpec (part): the pod spec without containers and volumes. */}}
{{- define "hitcounter.podSpec" -}}
serviceAccountName: {{ include "hitcounter.serviceAccountName" . }}
{{- /* Only the operator calls the Kubernetes API. */}}
automountServiceAccountToken: {{ eq .component "operator" }}
enableServiceLinks: false
{{- with include "hitcounter.imagePullSecrets" .root }}
{{ . }}
{{- end }}
securityContext:
  {{- toYaml .root.Values.podSecurityContext | nindent 2 }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* hitcounter.topologySpread (part): the configured constraints, or a spread over nodes and zones by default. */}}
{{- define "hitcounter.topologySpread" -}}
{{- if kindIs "invalid" .values.topologySpreadConstraints -}}
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
- topologyKey: {{ . }}
  maxSkew: 1
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "hitcounter.selectorLabels" $ | nindent 6 }}
  matchLabelKeys: [pod-template-hash]
{{- end -}}
{{- else if .values.topologySpreadConstraints -}}
{{- toYaml .values.topologySpreadConstraints -}}
{{- end -}}
{{- end -}}

{{/* hitcounter.container (part): image, environment and mounts of the main container. */}}
{{- define "hitcounter.container" -}}
image: {{ include "hitcounter.image" (dict "root" .root "image" .values.image) }}
imagePullPolicy: {{ .values.image.pullPolicy }}
securityContext:
  {{- toYaml .root.Values.securityContext | nindent 2 }}
envFrom:
  - configMapRef:
      name: {{ include "hitcounter.name" . }}
  {{- with .values.extraEnvFrom }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with include "hitcounter.environment" . | trim }}
env:
  {{- . | nindent 2 }}
{{- end }}
volumeMounts:
  - name: tmp
    mountPath: /tmp
  {{- range $store, $_ := include "hitcounter.authorities" .root | fromYaml }}
  - name: {{ $store }}-ca
    mountPath: /etc/hitcounter/{{ $store }}
    readOnly: true
  {{- end }}
  {{- range $store, $_ := include "hitcounter.clientCertificates" .root | fromYaml }}
  - name: {{ $store }}-client
    mountPath: /etc/hitcounter/{{ $store }}-client
    readOnly: true
  {{- end }}
  {{- with .values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* hitcounter.environment (part): secret environment variables, and those that the user adds. */}}
{{- define "hitcounter.environment" -}}
{{- with include "hitcounter.redis.secrets" . | trim }}
{{ . }}
{{- end }}
{{- with include "hitcounter.elasticsearch.secrets" .root | trim }}
{{ . }}
{{- end }}
{{- with .values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* hitcounter.volumes (part): the volumes that hitcounter.container mounts. */}}
{{- define "hitcounter.volumes" -}}
- name: tmp
  emptyDir:
    sizeLimit: 64Mi
{{- $root := .root -}}
{{- range $store, $secret := include "hitcounter.authorities" .root | fromYaml }}
- name: {{ $store }}-ca
  secret:
    secretName: {{ $secret }}
    items:
      {{- $key := include "hitcounter.authorityKey" (dict "root" $root "store" $store) }}
      - key: {{ $key }}
        path: {{ $key }}
{{- end }}
{{- range $store, $secret := include "hitcounter.clientCertificates" .root | fromYaml }}
- name: {{ $store }}-client
  secret:
    secretName: {{ $secret }}
    items:
      - key: tls.crt
        path: tls.crt
      - key: tls.key
        path: tls.key
{{- end }}
{{- with .values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* hitcounter.probes (no context): the same for every component, on the management port. The startup and
liveness probes check only that the event loop runs. The readiness probe checks that the component can do its work. The
liveness probe depends on no other server, so an outage of Elasticsearch does not restart pods. */}}
{{- define "hitcounter.probes" -}}
startupProbe:
  httpGet: {path: /livez, port: management}
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /livez, port: management}
  periodSeconds: 10
  timeoutSeconds: 3
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: management}
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: 2
{{- end -}}

{{/* hitcounter.gracePeriod (dict: values, section, drain, sleep): the termination grace period in seconds. It is the sum
of the preStop sleep, the component's drain time (its default if not set) and a margin of 10 seconds for the shutdown. */}}
{{- define "hitcounter.gracePeriod" -}}
{{- $section := index .values.config .section | default dict -}}
{{- add .sleep (ceil ($section.drain_seconds | default .drain)) 10 -}}
{{- end -}}
