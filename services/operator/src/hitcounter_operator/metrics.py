"""The Prometheus metrics of the operator."""

from __future__ import annotations

from dataclasses import dataclass

from hitcounter.metrics import explain
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from hitcounter_operator.decision import Decision
from hitcounter_operator.resource import ConditionType, Status, Truth
from hitcounter_operator.state import Reason

_TURN_SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
TURN_RESULTS = ("done", "failed", "waited")


@dataclass(frozen=True)
class OperatorMetrics:
    """The operator's metrics."""

    turns: Counter
    turn_seconds: Histogram
    notes: Counter
    conditions: Gauge
    desired_replicas: Gauge
    terms: Gauge
    hits_per_busy_second: Gauge

    def show_decision(self, name: str, decision: Decision) -> None:
        """Export the decision for the resource of that name. A value that is unknown keeps its last value."""
        self.desired_replicas.labels(name).set(decision.replicas)
        if terms := decision.recommendation.terms:
            for term in ("demand", "catch_up", "dead_time"):
                self.terms.labels(term).set(getattr(terms, term))
        if rates := decision.recommendation.rates:
            self.hits_per_busy_second.labels(name).set(rates.hits_per_busy_second)

    def show_status(self, status: Status) -> None:
        """Export the conditions; an unknown one is exported as 0."""
        for condition in status.conditions:
            self.conditions.labels(condition.type).set(condition.status is Truth.TRUE)

    def forget(self) -> None:
        """Stop exporting a resource that was deleted or that another operator manages now."""
        for gauge in (self.conditions, self.desired_replicas, self.terms, self.hits_per_busy_second):
            gauge.clear()


def create_metrics(registry: CollectorRegistry) -> OperatorMetrics:
    """Declare the operator's metrics in the registry."""

    def gauge(name: str, label: str, meaning: str, hint: str) -> Gauge:
        return Gauge(f"hitcounter_operator_{name}", explain(meaning, hint), [label], registry=registry)

    def counter(name: str, label: str, meaning: str, hint: str) -> Counter:
        return Counter(f"hitcounter_operator_{name}", explain(meaning, hint), [label], registry=registry)

    metrics = OperatorMetrics(
        turns=counter(
            "turns",
            "result",
            "Reconcile loop iterations, by result: done, failed, or waited (another operator has the lease).",
            "failed: the log has the reason, usually the Kubernetes API server. No done for a minute: nothing is "
            "scaled.",
        ),
        turn_seconds=Histogram(
            "hitcounter_operator_turn_duration_seconds",
            explain(
                "Seconds that one reconcile loop iteration took.",
                "If it comes close to HITCOUNTER_OPERATOR__INTERVAL_SECONDS: Redis or Kubernetes is slow.",
            ),
            buckets=_TURN_SECONDS,
            registry=registry,
        ),
        notes=counter(
            "notes",
            "reason",
            "Notices written as a Kubernetes Event and a log line, by reason.",
            "…Repaired: someone changes what the operator manages; the Events show what.",
        ),
        conditions=gauge(
            "condition",
            "type",
            "Conditions of the HitCounter resource: 1 if true, 0 if false or unknown.",
            "If Ready is 0: `kubectl describe hitcounter` shows the reason.",
        ),
        desired_replicas=gauge(
            "desired_replicas",
            "hitcounter",
            "Number of indexers that the last decision asks for.",
            "If it stays at maxReplicas while there is a backlog: raise maxReplicas, or give Elasticsearch more "
            "resources.",
        ),
        terms=gauge(
            "scaling_term_replicas",
            "term",
            "The terms of the last decision, in number of indexers: demand, catch_up, dead_time.",
            "docs/autoscaling.md explains each term and the settings that change it.",
        ),
        hits_per_busy_second=gauge(
            "indexer_hits_per_busy_second",
            "hitcounter",
            "Hits that one indexer settles per busy second, as measured so far.",
            "If it falls: Elasticsearch became slower, or the indexers have less CPU.",
        ),
    )
    for result in TURN_RESULTS:
        metrics.turns.labels(result)
    for reason in Reason:
        metrics.notes.labels(reason.value)
    for kind in ConditionType:
        metrics.conditions.labels(kind.value)
    return metrics
