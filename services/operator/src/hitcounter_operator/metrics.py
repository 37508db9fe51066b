"""The Prometheus metrics of the operator."""

from __future__ import annotations

from dataclasses import dataclass

from hitcounter.metrics import explain
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from hitcounter_operator.decide import Decision
from hitcounter_operator.notes import Reason
from hitcounter_operator.resource import ConditionType, Status, Truth

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
    start_seconds: Gauge

    def show_decision(self, name: str, decision: Decision) -> None:
        """Export the decision for the resource of that name. A value that is unknown keeps its last value."""
        self.desired_replicas.labels(name).set(decision.replicas)
        if decision.terms is not None:
            self.terms.labels("demand").set(decision.terms.demand)
            self.terms.labels("catch_up").set(decision.terms.catch_up)
            self.terms.labels("dead_time").set(decision.terms.dead_time)
        if decision.rates is not None:
            self.hits_per_busy_second.labels(name).set(decision.rates.hits_per_busy_second)
            self.start_seconds.labels(name).set(decision.rates.start_seconds)

    def show_status(self, status: Status) -> None:
        """Export the conditions; an unknown one is exported as 0."""
        for condition in status.conditions:
            self.conditions.labels(condition.type).set(condition.status is Truth.TRUE)

    def forget(self) -> None:
        """Stop exporting a resource that was deleted or that another operator manages now."""
        for gauge in (
            self.conditions,
            self.desired_replicas,
            self.terms,
            self.hits_per_busy_second,
            self.start_seconds,
        ):
            gauge.clear()


def create_metrics(registry: CollectorRegistry) -> OperatorMetrics:
    """Declare the operator's metrics in the registry."""
    metrics = OperatorMetrics(
        turns=Counter(
            "hitcounter_operator_turns",
            explain(
                "Reconcile loop iterations, by result: done, failed, or waited (another operator has the lease).",
                "failed: the log has the reason, usually the Kubernetes API server. No done for a minute: nothing is "
                "scaled.",
            ),
            ["result"],
            registry=registry,
        ),
        turn_seconds=Histogram(
            "hitcounter_operator_turn_duration_seconds",
            explain(
                "Seconds that one reconcile loop iteration took.",
                "If it comes close to HITCOUNTER_OPERATOR__INTERVAL_SECONDS: Redis, Kubernetes or the indexers are "
                "slow.",
            ),
            buckets=_TURN_SECONDS,
            registry=registry,
        ),
        notes=Counter(
            "hitcounter_operator_notes",
            explain(
                "Notices written as a Kubernetes Event and a log line, by reason.",
                "…Repaired: someone changes what the operator manages; the Events show what.",
            ),
            ["reason"],
            registry=registry,
        ),
        conditions=Gauge(
            "hitcounter_operator_condition",
            explain(
                "Conditions of the HitCounter resource: 1 if true, 0 if false or unknown.",
                "If Ready is 0: `kubectl describe hitcounter` shows the reason.",
            ),
            ["type"],
            registry=registry,
        ),
        desired_replicas=Gauge(
            "hitcounter_operator_desired_replicas",
            explain(
                "Number of indexers that the last decision asks for.",
                "If it stays at maxReplicas while there is a backlog: raise maxReplicas, or give Elasticsearch more "
                "resources.",
            ),
            ["hitcounter"],
            registry=registry,
        ),
        terms=Gauge(
            "hitcounter_operator_scaling_term_replicas",
            explain(
                "The terms of the last decision, in number of indexers: demand, catch_up, dead_time.",
                "docs/autoscaling.md explains each term and the settings that change it.",
            ),
            ["term"],
            registry=registry,
        ),
        hits_per_busy_second=Gauge(
            "hitcounter_operator_indexer_hits_per_busy_second",
            explain(
                "Hits that one indexer settles per busy second, as measured so far.",
                "If it falls: Elasticsearch became slower, or the indexers have less CPU.",
            ),
            ["hitcounter"],
            registry=registry,
        ),
        start_seconds=Gauge(
            "hitcounter_operator_indexer_start_seconds",
            explain(
                "Seconds from the creation of an indexer pod until it is ready, as measured so far.",
                "If it is long: images are pulled each time, or nodes have to be added first.",
            ),
            ["hitcounter"],
            registry=registry,
        ),
    )
    for result in TURN_RESULTS:
        metrics.turns.labels(result)
    for reason in Reason:
        metrics.notes.labels(reason.value)
    for kind in ConditionType:
        metrics.conditions.labels(kind.value)
    return metrics
