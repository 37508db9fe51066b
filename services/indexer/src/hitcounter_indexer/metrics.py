"""What the indexer tells Prometheus."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hitcounter.metrics import explain
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from hitcounter_indexer.outcomes import ItemOutcome

_BULK_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BULK_DOCUMENTS = (1, 10, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 50_000)
_SETTLE_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class IndexerMetrics:
    """The indexer's metrics; hits are counted when they are settled."""

    settled_hits: Counter
    settle_seconds: Histogram
    items: Counter
    retried_documents: Counter
    entries: Counter
    bulk_seconds: Histogram
    bulk_documents: Histogram
    busy_seconds: Counter
    failures: Counter
    entries_in_flight: Gauge
    open_circuit_breakers: Gauge
    left_entries: Gauge
    ledger_difference: Gauge


def create_metrics(registry: CollectorRegistry) -> IndexerMetrics:
    """Declare the indexer's metrics in the registry."""
    metrics = IndexerMetrics(
        settled_hits=Counter(
            "hitcounter_settled_hits",
            explain(
                "Hits settled by this process, by how they ended: indexed, duplicate or dead.",
                "dead: runbook, HitcounterDeadLetters. Many duplicates: clients send keys again, or indexers were "
                "killed.",
            ),
            ["result"],
            registry=registry,
        ),
        settle_seconds=Histogram(
            "hitcounter_settle_duration_seconds",
            explain(
                "Time in which the entries of one bulk were settled in Redis; retries included.",
                "If it rises: Redis's processor, or the network to it.",
            ),
            buckets=_SETTLE_SECONDS,
            registry=registry,
        ),
        items=Counter(
            "hitcounter_bulk_items",
            explain(
                "Documents answered by Elasticsearch, by outcome: indexed, duplicate, retry (it has too much to do), "
                "hold (refused for a reason that is not the document's) or reject (can never be stored: a dead "
                "letter).",
                "retry: Elasticsearch needs more, or larger, nodes. hold: /readyz of the indexer says why. reject: "
                "runbook, HitcounterDeadLetters.",
            ),
            ["outcome"],
            registry=registry,
        ),
        retried_documents=Counter(
            "hitcounter_retried_documents",
            explain(
                "Documents that Elasticsearch had too much to do for, or did not answer for, by reason: they are sent "
                "again. Those that an index refuses (hold) are not among them.",
                "If it rises, Elasticsearch pushes back; the reason is its own. More indexers would not help.",
            ),
            ["reason"],
            registry=registry,
        ),
        entries=Counter(
            "hitcounter_entries",
            explain(
                "Entries this process took, by origin: read, reclaimed (their consumer had gone silent), "
                "left (written for a newer indexer) or failed (this process could not handle them).",
                "reclaimed: an indexer died or hangs. left: finish the rollout. failed: our own bug, the log has it.",
            ),
            ["origin"],
            registry=registry,
        ),
        bulk_seconds=Histogram(
            "hitcounter_bulk_duration_seconds",
            explain("Time of one bulk request.", "If it rises at the same size, Elasticsearch is the bottleneck."),
            buckets=_BULK_SECONDS,
            registry=registry,
        ),
        bulk_documents=Histogram(
            "hitcounter_bulk_documents",
            explain(
                "Documents in one bulk request.",
                "Always at HITCOUNTER_INDEXER__BULK_MAX_DOCUMENTS: this indexer is behind.",
            ),
            buckets=_BULK_DOCUMENTS,
            registry=registry,
        ),
        busy_seconds=Counter(
            "hitcounter_busy_seconds",
            explain(
                "Time in which at least one bulk was under way. Hits settled by it is what one indexer can do.",
                "Its rate near 1 in every indexer: they are all busy, and more of them are needed.",
            ),
            registry=registry,
        ),
        failures=Counter(
            "hitcounter_failures",
            explain(
                "Failed calls, by the server that failed: redis or elasticsearch; indexer for our own bugs.",
                "/readyz of the indexer says what it waits for; our own bugs are in its log.",
            ),
            ["where"],
            registry=registry,
        ),
        entries_in_flight=Gauge(
            "hitcounter_entries_in_flight",
            explain(
                "Entries this process has and has not settled.",
                "If it stays the same while nothing is settled, this indexer waits for Elasticsearch.",
            ),
            registry=registry,
        ),
        open_circuit_breakers=Gauge(
            "hitcounter_open_circuit_breakers",
            explain(
                "Indices that refuse their documents while others take theirs, so that nothing is sent to them but a "
                "probe now and then.",
                "Above 0: /readyz of the indexer names the index and the reason. Repair it; the rest goes by itself.",
            ),
            registry=registry,
        ),
        left_entries=Gauge(
            "hitcounter_left_entries",
            explain(
                "Entries left pending until the circuit breaker of an index closes.",
                "They are settled within a minute of the repair of that index.",
            ),
            registry=registry,
        ),
        ledger_difference=Gauge(
            "hitcounter_ledger_difference_hits",
            explain(
                "Hits in the stream beyond what the ledger can explain (negative: missing), from a walk over the "
                "stream now and then while it is short. Must be 0.",
                "Anything else: runbook, HitcounterLedgerDiffers.",
            ),
            registry=registry,
        ),
    )
    _begin_at_zero(metrics)
    return metrics


def _begin_at_zero(metrics: IndexerMetrics) -> None:
    """Show every known label from the start: no rate is seen of what begins above 0."""
    known = {
        metrics.settled_hits: ("indexed", "duplicate", "dead"),
        metrics.items: [outcome.value for outcome in ItemOutcome],
        metrics.entries: ("read", "reclaimed", "left", "failed"),
        metrics.failures: ("redis", "elasticsearch", "indexer"),
    }
    for counter, labels in known.items():
        for label in labels:
            counter.labels(label)


class BusyClock:
    """Counts the time in which any lane is at work, once, however many are.

    It counts whenever a lane begins or ends: under full load the lanes take turns, and there is never none at work.
    """

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._lanes = 0
        self._counted_until = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time inside the block."""
        self._count()
        self._lanes += 1
        try:
            yield
        finally:
            self._count()
            self._lanes -= 1

    def _count(self) -> None:
        now = time.monotonic()
        if self._lanes:
            self._counter.inc(now - self._counted_until)
        self._counted_until = now
