"""What the API tells Prometheus. On the path of a hit, each number is counted once a batch, not once a hit."""

from __future__ import annotations

from dataclasses import dataclass

from hitcounter.hits import FIELDS
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_TRACK_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_READ_SECONDS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ENTRY_HITS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000)


@dataclass(frozen=True)
class ApiMetrics:
    """The API's metrics."""

    accepted_hits: Counter
    refused_hits: Counter
    waiting_hits: Gauge
    append_seconds: Histogram
    append_failures: Counter
    track_seconds: Histogram
    entry_hits: Histogram
    invalid_requests: Counter
    reads: Counter
    read_seconds: Histogram

    def count_invalid(self, problem: str, field: object) -> None:
        """Count a request that its sender must change. Only our own names become labels, never what a client wrote."""
        self.invalid_requests.labels(problem, field if field in FIELDS else "").inc()


def create_metrics(registry: CollectorRegistry) -> ApiMetrics:
    """Declare the API's metrics in the registry."""
    return ApiMetrics(
        accepted_hits=Counter("hitcounter_accepted_hits", "Hits this process acknowledged.", registry=registry),
        refused_hits=Counter(
            "hitcounter_refused_hits",
            "Hits that were not acknowledged, by reason (full: too many were waiting; stream: Redis; draining: this "
            "process is about to stop; durability: more was asked than this Redis can promise) and by outcome "
            "(refused, or unknown: they may have been taken).",
            ["reason", "outcome"],
            registry=registry,
        ),
        waiting_hits=Gauge(
            "hitcounter_waiting_hits",
            "Hits in memory that wait for the batch before them, by the durability they were promised.",
            ["durability"],
            registry=registry,
        ),
        append_seconds=Histogram(
            "hitcounter_append_duration_seconds",
            "Time in which one batch of hits was in Redis, or given up; retries included.",
            buckets=_TRACK_SECONDS,
            registry=registry,
        ),
        append_failures=Counter(
            "hitcounter_append_failures", "Failed attempts to add a batch to the stream.", registry=registry
        ),
        track_seconds=Histogram(
            "hitcounter_track_duration_seconds",
            "Time from the arrival of a batch's first hit to the answer to all of it: the longest wait of the batch.",
            buckets=_TRACK_SECONDS,
            registry=registry,
        ),
        entry_hits=Histogram(
            "hitcounter_entry_hits", "Hits in one entry of the stream.", buckets=_ENTRY_HITS, registry=registry
        ),
        invalid_requests=Counter(
            "hitcounter_invalid_requests",
            "Requests that their sender must change, by the kind of problem and the field of the hit at fault.",
            ["problem", "field"],
            registry=registry,
        ),
        reads=Counter(
            "hitcounter_reads",
            "Reads of an id's counts, by result: fresh, stale (last known counts; Elasticsearch was away) or refused.",
            ["result"],
            registry=registry,
        ),
        read_seconds=Histogram(
            "hitcounter_read_duration_seconds",
            "Time of one read of an id's counts.",
            buckets=_READ_SECONDS,
            registry=registry,
        ),
    )
