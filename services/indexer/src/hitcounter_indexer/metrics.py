"""What the indexer tells Prometheus."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_BULK_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BULK_DOCUMENTS = (1, 10, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 50_000)


@dataclass(frozen=True)
class IndexerMetrics:
    """The indexer's metrics; hits are counted when they are settled."""

    settled_hits: Counter
    retried_documents: Counter
    entries: Counter
    bulk_seconds: Histogram
    bulk_documents: Histogram
    busy_seconds: Counter
    failures: Counter
    entries_in_flight: Gauge


def create_metrics(registry: CollectorRegistry) -> IndexerMetrics:
    """Declare the indexer's metrics in the registry."""
    return IndexerMetrics(
        settled_hits=Counter(
            "hitcounter_settled_hits",
            "Hits settled by this process, by how they ended: indexed, duplicate or dead.",
            ["result"],
            registry=registry,
        ),
        retried_documents=Counter(
            "hitcounter_retried_documents",
            "Documents that had to be sent again, by reason. Rising: Elasticsearch pushes back, or refuses.",
            ["reason"],
            registry=registry,
        ),
        entries=Counter(
            "hitcounter_entries",
            "Entries this process took, by origin: read, reclaimed (their consumer had gone silent), "
            "left (written for a newer indexer) or failed (this process could not handle them).",
            ["origin"],
            registry=registry,
        ),
        bulk_seconds=Histogram(
            "hitcounter_bulk_duration_seconds", "Time of one bulk request.", buckets=_BULK_SECONDS, registry=registry
        ),
        bulk_documents=Histogram(
            "hitcounter_bulk_documents", "Documents in one bulk request.", buckets=_BULK_DOCUMENTS, registry=registry
        ),
        busy_seconds=Counter(
            "hitcounter_busy_seconds",
            "Time in which at least one bulk was under way. Hits settled by it is what one indexer can do.",
            registry=registry,
        ),
        failures=Counter(
            "hitcounter_failures",
            "Failed calls, by the server that failed: redis or elasticsearch; indexer for our own bugs.",
            ["where"],
            registry=registry,
        ),
        entries_in_flight=Gauge(
            "hitcounter_entries_in_flight", "Entries this process has and has not settled.", registry=registry
        ),
    )


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
