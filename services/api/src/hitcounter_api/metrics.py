"""What the API tells Prometheus. On the path of a hit, each number is counted once a batch, not once a hit."""

from __future__ import annotations

from dataclasses import dataclass

from hitcounter.hits import FIELDS
from hitcounter.metrics import explain
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_TRACK_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_READ_SECONDS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ENTRY_HITS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000)
_READ_RESULTS = ("fresh", "stale", "refused", "full")


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
    internal_errors: Counter
    open_connections: Gauge
    refused_connections: Counter
    reads: Counter
    read_seconds: Histogram

    def count_invalid(self, problem: str, field: object) -> None:
        """Count a request that its sender must change. Only our own names become labels, never what a client wrote."""
        self.invalid_requests.labels(problem, field if field in FIELDS else "").inc()


def create_metrics(registry: CollectorRegistry) -> ApiMetrics:
    """Declare the API's metrics in the registry."""
    metrics = ApiMetrics(
        accepted_hits=Counter(
            "hitcounter_accepted_hits",
            explain(
                "Hits this process acknowledged.",
                "Its rate is the arrival rate that scaling goes by. If it falls to nothing, look for refused hits, "
                "then in front of the API.",
            ),
            registry=registry,
        ),
        refused_hits=Counter(
            "hitcounter_refused_hits",
            explain(
                "Hits that were not acknowledged, by reason (full: too many were waiting; stream: Redis; draining: "
                "this process is about to stop; durability: more was asked than this Redis can promise) and by outcome "
                "(refused, or unknown: they may have been taken).",
                "stream: see to Redis. full: Redis is slow, or more APIs are needed. durability: the client asks for "
                "what this Redis cannot do. draining: nothing, clients try again elsewhere.",
            ),
            ["reason", "outcome"],
            registry=registry,
        ),
        waiting_hits=Gauge(
            "hitcounter_waiting_hits",
            explain(
                "Hits in memory that wait for the batch before them, by the durability they were promised.",
                "If it stays near HITCOUNTER_INTAKE__LIMIT, Redis does not keep up, and hits are about to be refused.",
            ),
            ["durability"],
            registry=registry,
        ),
        append_seconds=Histogram(
            "hitcounter_append_duration_seconds",
            explain(
                "Time in which one batch of hits was in Redis, or given up; retries included.",
                "If it rises: Redis's processor, its disk (appendfsync), or the network to it.",
            ),
            buckets=_TRACK_SECONDS,
            registry=registry,
        ),
        append_failures=Counter(
            "hitcounter_append_failures",
            explain(
                "Failed attempts to add a batch to the stream.",
                "A few at a failover are well. If it goes on: Redis is away or full; hits are refused meanwhile.",
            ),
            registry=registry,
        ),
        track_seconds=Histogram(
            "hitcounter_track_duration_seconds",
            explain(
                "Time from the arrival of a batch's first hit to the answer to all of it: the longest wait of the "
                "batch.",
                "If it rises and the append does not, this process is short of processor: more APIs.",
            ),
            buckets=_TRACK_SECONDS,
            registry=registry,
        ),
        entry_hits=Histogram(
            "hitcounter_entry_hits",
            explain(
                "Hits in one entry of the stream.",
                "Grows with the load by design; near 10,000 Redis is far behind.",
            ),
            buckets=_ENTRY_HITS,
            registry=registry,
        ),
        invalid_requests=Counter(
            "hitcounter_invalid_requests",
            explain(
                "Requests that their sender must change, by the kind of problem and the field of the hit at fault.",
                "If it jumps, a client was changed; the labels tell what it sends wrongly.",
            ),
            ["problem", "field"],
            registry=registry,
        ),
        internal_errors=Counter(
            "hitcounter_internal_errors",
            explain(
                "Requests that met a bug of the API and were answered with 500.",
                "There should be none: the log has each with its traceback. Report it.",
            ),
            registry=registry,
        ),
        open_connections=Gauge(
            "hitcounter_open_connections",
            explain(
                "Connections of clients that are open.",
                "If it comes near HITCOUNTER_HTTP__MAX_CONNECTIONS, add APIs, or find the client that opens too many.",
            ),
            registry=registry,
        ),
        refused_connections=Counter(
            "hitcounter_refused_connections",
            explain(
                "Connections answered with 503 and closed, because HITCOUNTER_HTTP__MAX_CONNECTIONS were open.",
                "If it goes on: more APIs, a balancer that reuses its connections, or a client that opens too many.",
            ),
            registry=registry,
        ),
        reads=Counter(
            "hitcounter_reads",
            explain(
                "Reads of an id's counts or history, by result: fresh, stale (last known counts; Elasticsearch was "
                "away), refused (Elasticsearch was away) or full (no place was free in time).",
                "If stale or refused ones go on: runbook, HitcounterReadsNotFresh. If full ones do: Elasticsearch is "
                "slow, or HITCOUNTER_READS__MAX_CONCURRENT too low.",
            ),
            ["result"],
            registry=registry,
        ),
        read_seconds=Histogram(
            "hitcounter_read_duration_seconds",
            explain(
                "Time of one read of an id's counts or history, the wait for a place included.",
                "If it rises: Elasticsearch is busy, or has too many shards for what it is.",
            ),
            buckets=_READ_SECONDS,
            registry=registry,
        ),
    )
    for result in _READ_RESULTS:
        metrics.reads.labels(result)  # there from the start: no rate is seen of what begins above 0
    return metrics
