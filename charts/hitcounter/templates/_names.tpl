{{/*
Names, labels and images. All names in the chart and its subcharts are built here.

There are two kinds of context. A helper marked "root" takes the chart's context (`.`). A helper marked "part" takes a
dict with `root` and `component` (api, indexer, redis, elasticsearch, ...):

    metadata:
      {{- include "hitcounter.metadata" (dict "root" . "component" "api") | nindent 2 }}

Selectors use only the labels name, instance and component, because the selector of a Deployment is immutable.
*/}}

{{/* hitcounter.shorten (string): at most 36 characters, so that the longest name built from it is at most 52: the
pods of a StatefulSet append up to 11 characters, and the limit is 63. A truncated name ends in a hash. */}}
{{- define "hitcounter.shorten" -}}
{{- if gt (len .) 36 -}}
{{- printf "%s-%s" (. | trunc 29 | trimSuffix "-") (. | sha256sum | trunc 6) -}}
{{- else -}}
{{- . -}}
{{- end -}}
{{- end -}}

{{/* hitcounter.fullname (root): first part of the names of our components. */}}
{{- define "hitcounter.fullname" -}}
{{- $name := .Values.fullnameOverride -}}
{{- if not $name -}}
{{- $name = ternary .Release.Name (printf "%s-hitcounter" .Release.Name) (contains "hitcounter" .Release.Name) -}}
{{- end -}}
{{- include "hitcounter.shorten" $name -}}
{{- end -}}

{{/* hitcounter.name (part): the name of a component's objects, such as hc-hitcounter-api. */}}
{{- define "hitcounter.name" -}}
{{- printf "%s-%s" (include "hitcounter.fullname" .root) .component -}}
{{- end -}}

{{/* hitcounter.storesSecret (root): the Secret that the chart creates from passwords in the values. */}}
{{- define "hitcounter.storesSecret" -}}
{{- include "hitcounter.name" (dict "root" . "component" "stores") -}}
{{- end -}}

{{/* hitcounter.serviceAccountName (part) */}}
{{- define "hitcounter.serviceAccountName" -}}
{{- $values := (index .root.Values .component).serviceAccount -}}
{{- $values.name | default (ternary (include "hitcounter.name" .) "default" $values.create) -}}
{{- end -}}

{{/* hitcounter.scaledObjectName (root): KEDA derives the name of its HorizontalPodAutoscaler from it. */}}
{{- define "hitcounter.scaledObjectName" -}}
{{- include "hitcounter.name" (dict "root" . "component" "indexer") -}}
{{- end -}}

{{/* redis.fullname, elasticsearch.fullname (root of the subchart; from the parent: .Subcharts.redis) */}}
{{- define "redis.fullname" -}}
{{- .Values.fullnameOverride | default (printf "%s-redis" (include "hitcounter.shorten" .Release.Name)) -}}
{{- end -}}
{{- define "elasticsearch.fullname" -}}
{{- .Values.fullnameOverride | default (printf "%s-elasticsearch" (include "hitcounter.shorten" .Release.Name)) -}}
{{- end -}}

{{/* hitcounter.selectorLabels (part) */}}
{{- define "hitcounter.selectorLabels" -}}
app.kubernetes.io/name: hitcounter
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* hitcounter.labels (part): labels of an object. */}}
{{- define "hitcounter.labels" -}}
{{ include "hitcounter.podLabels" . }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* hitcounter.podLabels (part): labels of a pod, without the chart version: upgrading only the chart must not restart pods. */}}
{{- define "hitcounter.podLabels" -}}
{{ include "hitcounter.selectorLabels" . }}
app.kubernetes.io/part-of: hitcounter
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
{{- with .root.Values.global.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* hitcounter.metadata (part; optional: `name`, `annotations`): the whole metadata of an object. */}}
{{- define "hitcounter.metadata" -}}
name: {{ .name | default (include "hitcounter.name" .) }}
namespace: {{ .namespace | default .root.Release.Namespace }}
labels:
  {{- include "hitcounter.labels" . | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (.annotations | default dict) (.root.Values.global.commonAnnotations | default dict) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* hitcounter.image (dict: root, image): registry/repository:tag, or registry/repository@digest if a digest is set. In a
subchart, root's `image.registry` is that of the only image. */}}
{{- define "hitcounter.image" -}}
{{- $registry := coalesce .root.Values.global.imageRegistry .image.registry .root.Values.image.registry -}}
{{- $path := list $registry .image.repository | compact | join "/" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $path .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $path (.image.tag | default .root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* hitcounter.imagePullSecrets (root) */}}
{{- define "hitcounter.imagePullSecrets" -}}
{{- with .Values.global.imagePullSecrets -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end -}}
{{- end -}}
