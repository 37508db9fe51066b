{{/*
How many indexers: the formula, once as a Prometheus query and once, without arrival rate, as hits per indexer.

    desired = ( arrival · (1/u + start/T) + backlog/T ) / μ

arrival  hits accepted per second            u      share of its time an indexer should be busy
backlog  hits accepted and not settled       T      seconds in which a backlog should be gone
μ        hits settled per busy second        start  seconds until a new indexer is at work
*/}}

{{/* hitcounter.scaling.selector (root): picks this installation's series. */}}
{{- define "hitcounter.scaling.selector" -}}
{{- .Values.autoscaling.keda.prometheus.selector | default (printf "namespace=%q,pod=~\"%s-(api|indexer)-.+\"" .Release.Namespace (include "hitcounter.fullname" .)) -}}
{{- end -}}

{{/* hitcounter.scaling.query (root): the number of indexers wanted.
- The backlog is the same number in every process that shows it: max, never sum. The API shows it without indexers.
- No `or vector(0)` around arrival and backlog: where they are not known there must be no answer, and KEDA holds.
- Nor is there one while Redis is away, whether nobody shows a backlog then or all show not-a-number: `>= 0` lets
  neither through. What one of several can still see counts.
- μ is measured by the busy second, so idling does not lower it. Idle is 0/0, which is no number and not above 0: then
  the last one known counts, and before there ever was one, the one in the values.
- Where Elasticsearch sends back more than one document in a hundred, having too much to do (those that a closed or
  read-only index refuses are not counted), more indexers would only push harder: then the
  number of those that are there is the answer, until it can keep up again. */}}
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

{{/* hitcounter.scaling.kedaAsksTheOperator (root): "true", or nothing. */}}
{{- define "hitcounter.scaling.kedaAsksTheOperator" -}}
{{- if and .Values.operator.enabled (eq .Values.autoscaling.mode "keda") (eq .Values.autoscaling.keda.source "operator") -}}
true
{{- end -}}
{{- end -}}

{{/* hitcounter.scaling.hitsPerIndexer (root): what one indexer settles in the time a backlog may take. */}}
{{- define "hitcounter.scaling.hitsPerIndexer" -}}
{{- mul (int64 .Values.autoscaling.formula.hitsPerBusySecond) (int64 .Values.autoscaling.formula.drainTargetSeconds) -}}
{{- end -}}
