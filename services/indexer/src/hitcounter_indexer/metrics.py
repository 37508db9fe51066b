"""The Prometheus metrics of the indexer."""

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
    deferred_entries: Gauge
    ledger_difference: Gauge
    retention_failing: Gauge


def create_metrics(registry: CollectorRegistry) -> IndexerMetrics:
    """Declare the indexer's metrics in the registry."""
    metrics = IndexerMetrics(
        settled_hits=Counter(
            "hitcounter_settled_hits",
            explain(
                "Hits that this process settled, by result: indexed, duplicate or dead.",
                "dead: runbook, HitcounterDeadLetters. Many duplicates: clients repeat idempotency keys, or indexers "
                "were killed.",
            ),
            ["result"],
            registry=registry,
        ),
        settle_seconds=Histogram(
            "hitcounter_settle_duration_seconds",
            explain(
                "Seconds that it took to settle the entries of one bulk in Redis, including retries.",
                "If it rises: check the CPU of Redis and the network to it.",
            ),
            buckets=_SETTLE_SECONDS,
            registry=registry,
        ),
        items=Counter(
            "hitcounter_bulk_items",
            explain(
                "Documents by the response of Elasticsearch: indexed, duplicate, retry (Elasticsearch is overloaded), "
                "hold (refused, but the document is valid: it is tried again) or reject (can never be stored: a dead "
                "letter).",
                "retry: Elasticsearch needs more or larger nodes. hold: /readyz of the indexer gives the reason. "
                "reject: runbook, HitcounterDeadLetters.",
            ),
            ["outcome"],
            registry=registry,
        ),
        retried_documents=Counter(
            "hitcounter_retried_documents",
            explain(
                "Documents that are sent again because Elasticsearch was overloaded or did not answer, by its reason. "
                "Documents that an index refuses (hold) are not counted here.",
                "If it rises, Elasticsearch applies backpressure. More indexers would not help.",
            ),
            ["reason"],
            registry=registry,
        ),
        entries=Counter(
            "hitcounter_entries",
            explain(
                "Entries that this process handled, by origin: read, reclaimed (taken over from a silent consumer), "
                "left (they need a newer indexer) or failed (a bug: this process could not handle them).",
                "reclaimed: an indexer died or hangs. left: finish the rollout. failed: see the log, and report it.",
            ),
            ["origin"],
            registry=registry,
        ),
        bulk_seconds=Histogram(
            "hitcounter_bulk_duration_seconds",
            explain(
                "Seconds that one bulk request took.",
                "If it rises while hitcounter_bulk_documents does not, Elasticsearch is the bottleneck.",
            ),
            buckets=_BULK_SECONDS,
            registry=registry,
        ),
        bulk_documents=Histogram(
            "hitcounter_bulk_documents",
            explain(
                "Documents in one bulk request.",
                "If it is always at HITCOUNTER_INDEXER__BULK_MAX_DOCUMENTS, this indexer is behind.",
            ),
            buckets=_BULK_DOCUMENTS,
            registry=registry,
        ),
        busy_seconds=Counter(
            "hitcounter_busy_seconds",
            explain(
                "Seconds in which at least one bulk was in progress. Settled hits divided by it give the capacity of "
                "one indexer.",
                "If its rate is near 1 in every indexer, all are busy: add indexers.",
            ),
            registry=registry,
        ),
        failures=Counter(
            "hitcounter_failures",
            explain(
                "Failed calls, by where they failed: redis, elasticsearch, or indexer for a bug in the indexer.",
                "redis, elasticsearch: /readyz of the indexer shows what it waits for. indexer: see its log, and "
                "report it.",
            ),
            ["where"],
            registry=registry,
        ),
        entries_in_flight=Gauge(
            "hitcounter_entries_in_flight",
            explain(
                "Entries that this process has read and not settled yet.",
                "If it does not change and nothing is settled, this indexer waits for Elasticsearch.",
            ),
            registry=registry,
        ),
        open_circuit_breakers=Gauge(
            "hitcounter_open_circuit_breakers",
            explain(
                "Indices with an open circuit breaker: the index refuses documents while others accept theirs. Only a "
                "probe is sent to it every few seconds.",
                "Above 0: /readyz of the indexer names the index and the reason. Repair the index; the breaker then "
                "closes by itself.",
            ),
            registry=registry,
        ),
        deferred_entries=Gauge(
            "hitcounter_left_entries",
            explain(
                "Entries that stay pending until the circuit breaker of an index closes.",
                "Repair that index: its entries are settled within a minute.",
            ),
            registry=registry,
        ),
        ledger_difference=Gauge(
            "hitcounter_ledger_difference_hits",
            explain(
                "Hits in the stream minus the hits that the ledger accounts for (negative: hits are missing). It is "
                "measured from time to time while the stream is short. It must be 0.",
                "If it is not 0: runbook, HitcounterLedgerDiffers.",
            ),
            registry=registry,
        ),
        retention_failing=Gauge(
            "hitcounter_retention_failing",
            explain(
                "1 if the indexer that holds the as-of lease could not delete expired indices when it last tried, else "
                "0.",
                "If it stays 1: runbook, HitcounterRetentionFails.",
            ),
            registry=registry,
        ),
    )
    _begin_at_zero(metrics)
    return metrics


def _begin_at_zero(metrics: IndexerMetrics) -> None:
    """Export every known label from the start: rate() misses the first increase of a new series."""
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
    """Counts the seconds in which at least one worker is busy. Workers that are busy at the same time count once.

    It counts whenever a worker starts or stops, and when it is read.
    """

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._workers = 0
        self._seconds = 0.0
        self._counted_until = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time inside the block."""
        self._count()
        self._workers += 1
        try:
            yield
        finally:
            self._count()
            self._workers -= 1

    def read_seconds(self) -> float:
        """Return the seconds counted so far, up to now."""
        self._count()
        return self._seconds

    def _count(self) -> None:
        now = time.monotonic()
        if self._workers:
            self._counter.inc(now - self._counted_until)
            self._seconds += now - self._counted_until
        self._counted_until = now
