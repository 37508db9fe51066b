{{/*
The number of indexers: the formula as a Prometheus query, and a simpler form without the arrival rate (hits per indexer).

    desired = ( arrival · (1/u + start/T) + backlog/T ) / μ

arrival  hits accepted per second            u      target share of its time that an indexer is busy
backlog  hits accepted and not settled       T      target time to drain a backlog, in seconds
μ        hits settled per busy second        start  seconds until a new indexer processes hits
*/}}

{{/* hitcounter.scaling.selector (root): selects the series of this installation. */}}
{{- define "hitcounter.scaling.selector" -}}
{{- .Values.autoscaling.keda.prometheus.selector | default (printf "namespace=%q,pod=~\"%s-(api|indexer)-.+\"" .Release.Namespace (include "hitcounter.fullname" .)) -}}
{{- end -}}

{{/* hitcounter.scaling.query (root): the desired number of indexers.
- Every process exposes the same backlog, so use max, never sum. The API exposes it even if there are no indexers.
- There is no `or vector(0)` around arrival and backlog: if they are unknown, the query must return nothing, and KEDA
  keeps the current number of indexers.
- The query also returns nothing while Redis is unavailable. The backlog is then missing or NaN, and `>= 0` filters out
  NaN. If at least one process still reads the backlog, its value is used.
- μ is measured per busy second, so idle time does not lower it. With no work it is 0/0 = NaN, which `> 0` filters out;
  the query then uses the last known value, or the configured value if there has never been one.
- If Elasticsearch rejects more than 1 % of the documents because it is overloaded, more indexers would increase the
  overload. The query then returns the current number of indexers until Elasticsearch can keep up again. Rejections by a
  closed or read-only index do not count. */}}
{{- define "hitcounter.scaling.query" -}}
{{- $selector := include "hitcounter.scaling.selector" . -}}
{{- $formula := .Values.autoscaling.formula -}}
{{- $rate := printf "sum(rate(hitcounter_settled_hits_total{%s}[5m])) / sum(rate(hitcounter_busy_seconds_total{%s}[5m])) > 0" $selector $selector -}}
(
  count(hitcounter_busy_seconds_total{ {{- $selector -}} })
  and on() sum(rate(hitcounter_retried_documents_total{ {{- $selector -}} }[1m])) > 0.01 * sum(rate(hitcounter_settled_hits_total{ {{- $selector -}} }[1m]))
)
or
(
  sum(rate(hitcounter_accepted_hits_total{ {{- $selector -}} }[1m])) * (1 / {{ $formula.targetUtilization }} + {{ $formula.startSeconds }} / {{ $formula.drainTargetSeconds }})
  + max(hitcounter_backlog_hits{ {{- $selector -}} } >= 0) / {{ $formula.drainTargetSeconds }}
)
/ (
  ({{ $rate }})
  or last_over_time(({{ $rate }})[6h:1m])
  or vector({{ int64 $formula.hitsPerBusySecond }})
)
{{- end -}}

{{/* hitcounter.scaling.kedaAsksTheOperator (root): "true" or empty. */}}
{{- define "hitcounter.scaling.kedaAsksTheOperator" -}}
{{- if and .Values.operator.enabled (eq .Values.autoscaling.mode "keda") (eq .Values.autoscaling.keda.source "operator") -}}
true
{{- end -}}
{{- end -}}

{{/* hitcounter.scaling.hitsPerIndexer (root): hits that one indexer settles within drainTargetSeconds. */}}
{{- define "hitcounter.scaling.hitsPerIndexer" -}}
{{- mul (int64 .Values.autoscaling.formula.hitsPerBusySecond) (int64 .Values.autoscaling.formula.drainTargetSeconds) -}}
{{- end -}}
