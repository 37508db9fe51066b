"""What the operator tells Prometheus."""

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
        """Show what was decided for the resource of that name; what is unknown keeps what it was."""
        self.desired_replicas.labels(name).set(decision.replicas)
        if decision.terms is not None:
            self.terms.labels("demand").set(decision.terms.demand)
            self.terms.labels("catch_up").set(decision.terms.catch_up)
            self.terms.labels("dead_time").set(decision.terms.dead_time)
        if decision.rates is not None:
            self.hits_per_busy_second.labels(name).set(decision.rates.hits_per_busy_second)
            self.start_seconds.labels(name).set(decision.rates.start_seconds)

    def show_status(self, status: Status) -> None:
        """Show the conditions; one that is unknown counts as not so."""
        for condition in status.conditions:
            self.conditions.labels(condition.type).set(condition.status is Truth.TRUE)

    def forget(self) -> None:
        """Show nothing of a resource that is gone, or is another operator's to look after."""
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
                "Turns of the loop, by how they ended: done, failed, or waited (another operator has the lease).",
                "failed: the log says why, Kubernetes' API server as a rule. No done for a minute: nobody scales.",
            ),
            ["result"],
            registry=registry,
        ),
        turn_seconds=Histogram(
            "hitcounter_operator_turn_duration_seconds",
            explain(
                "Time that one turn took: looking, deciding, scaling, telling.",
                "If it nears the interval between turns: Redis, Kubernetes or the indexers answer late.",
            ),
            buckets=_TURN_SECONDS,
            registry=registry,
        ),
        notes=Counter(
            "hitcounter_operator_notes",
            explain(
                "What was told as an Event and a line of the log, by reason.",
                "…Repaired: somebody changes what the operator looks after; the Events say what.",
            ),
            ["reason"],
            registry=registry,
        ),
        conditions=Gauge(
            "hitcounter_operator_condition",
            explain(
                "Conditions of the HitCounter: 1 where it is so, 0 where it is not or unknown.",
                "Ready 0: `kubectl describe hitcounter` says why.",
            ),
            ["type"],
            registry=registry,
        ),
        desired_replicas=Gauge(
            "hitcounter_operator_desired_replicas",
            explain(
                "Indexers that there should be by the last decision.",
                "If it stays at maxReplicas over a backlog: raise that, or give Elasticsearch more.",
            ),
            ["hitcounter"],
            registry=registry,
        ),
        terms=Gauge(
            "hitcounter_operator_scaling_term_replicas",
            explain(
                "The terms of the last decision, in indexers: demand, catch_up, dead_time.",
                "docs/autoscaling.md says what each is made of, and which setting moves it.",
            ),
            ["term"],
            registry=registry,
        ),
        hits_per_busy_second=Gauge(
            "hitcounter_operator_indexer_hits_per_busy_second",
            explain(
                "Hits that one indexer settles in a busy second, as it was learnt so far.",
                "If it falls: Elasticsearch, or the processors of the indexers, became slower.",
            ),
            ["hitcounter"],
            registry=registry,
        ),
        start_seconds=Gauge(
            "hitcounter_operator_indexer_start_seconds",
            explain(
                "Seconds from the creation of an indexer until it is ready, as it was learnt so far.",
                "If it is long: images that are pulled each time, or nodes that have to come first.",
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
