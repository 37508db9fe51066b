"""The Prometheus metrics of the API. On the hot path metrics are updated once per batch, not once per hit."""

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
    keys_file_invalid: Gauge
    reads: Counter
    read_seconds: Histogram

    def count_invalid(self, problem: str, field: object) -> None:
        """Count a request that the client must change. Labels are our own names only, never text from a client."""
        self.invalid_requests.labels(problem, field if field in FIELDS else "").inc()


def create_metrics(registry: CollectorRegistry) -> ApiMetrics:
    """Declare the API's metrics in the registry."""
    metrics = ApiMetrics(
        accepted_hits=Counter(
            "hitcounter_accepted_hits",
            explain(
                "Hits that this process acknowledged.",
                "Its rate is the arrival rate that autoscaling uses. If it drops to 0: check the refused hits, then "
                "the load balancer and the clients.",
            ),
            registry=registry,
        ),
        refused_hits=Counter(
            "hitcounter_refused_hits",
            explain(
                "Hits that were not acknowledged. Reason: full (too many were waiting), stream (Redis failed) or "
                "durability (Redis does not support the durability asked for). Outcome: refused, or unknown if they "
                "may have been accepted.",
                "stream: check Redis. full: Redis is slow, or more API replicas are needed. durability: change the "
                "client, or give Redis 7.2 or newer with appendonly yes.",
            ),
            ["reason", "outcome"],
            registry=registry,
        ),
        waiting_hits=Gauge(
            "hitcounter_waiting_hits",
            explain(
                "Hits in memory that wait while the previous batch is sent to Redis, by durability.",
                "If it stays near HITCOUNTER_INTAKE__LIMIT, Redis does not keep up, and hits will be refused soon.",
            ),
            ["durability"],
            registry=registry,
        ),
        append_seconds=Histogram(
            "hitcounter_append_duration_seconds",
            explain(
                "Seconds until a batch of hits was in Redis or was given up, including retries.",
                "If it rises: check the CPU of Redis, its disk (appendfsync), and the network to it.",
            ),
            buckets=_TRACK_SECONDS,
            registry=registry,
        ),
        append_failures=Counter(
            "hitcounter_append_failures",
            explain(
                "Failed attempts to add a batch to the stream.",
                "A few during a failover are normal. If it continues: Redis is down or full, and hits are refused.",
            ),
            registry=registry,
        ),
        track_seconds=Histogram(
            "hitcounter_track_duration_seconds",
            explain(
                "Seconds from the arrival of the first hit of a batch to the response: the longest wait in the batch.",
                "If it rises and hitcounter_append_duration_seconds does not, this process lacks CPU: add API "
                "replicas.",
            ),
            buckets=_TRACK_SECONDS,
            registry=registry,
        ),
        entry_hits=Histogram(
            "hitcounter_entry_hits",
            explain(
                "Hits in one entry of the stream.",
                "It grows with the load by design. Near 10,000, Redis is far behind.",
            ),
            buckets=_ENTRY_HITS,
            registry=registry,
        ),
        invalid_requests=Counter(
            "hitcounter_invalid_requests",
            explain(
                "Requests that the client must change, by problem type and by the invalid field of the hit.",
                "If it jumps, a client was changed. The labels show what it sends wrongly.",
            ),
            ["problem", "field"],
            registry=registry,
        ),
        internal_errors=Counter(
            "hitcounter_internal_errors",
            explain(
                "Requests that failed because of a bug in the API and got a 500.",
                "There should be none. The log has a traceback for each: report it.",
            ),
            registry=registry,
        ),
        open_connections=Gauge(
            "hitcounter_open_connections",
            explain(
                "Open client connections.",
                "If it comes close to HITCOUNTER_HTTP__MAX_CONNECTIONS: add API replicas, or find the client that "
                "opens too many.",
            ),
            registry=registry,
        ),
        refused_connections=Counter(
            "hitcounter_refused_connections",
            explain(
                "Connections that got 503 and were closed, because HITCOUNTER_HTTP__MAX_CONNECTIONS were open.",
                "If it continues: add API replicas, let the load balancer reuse connections, or find the client that "
                "opens too many.",
            ),
            registry=registry,
        ),
        keys_file_invalid=Gauge(
            "hitcounter_keys_file_invalid",
            explain(
                "1 while HITCOUNTER_ACCESS__KEYS_FILE is not valid, and the last valid keys are used; else 0.",
                "If it is 1: the warnings of /readyz and the log say what is wrong. A restart would fail.",
            ),
            registry=registry,
        ),
        reads=Counter(
            "hitcounter_reads",
            explain(
                "Reads of the counts or the history of an id. Result: fresh, stale (Elasticsearch was down, last known "
                "counts were returned), refused (Elasticsearch was down) or full (too many reads were waiting).",
                "stale, refused: runbook, HitcounterReadsNotFresh. full: Elasticsearch is slow, or "
                "HITCOUNTER_READS__MAX_CONCURRENT is too low.",
            ),
            ["result"],
            registry=registry,
        ),
        read_seconds=Histogram(
            "hitcounter_read_duration_seconds",
            explain(
                "Seconds that one read of counts or history took, including the wait for a free slot.",
                "If it rises: Elasticsearch is busy, or has too many shards for its size.",
            ),
            buckets=_READ_SECONDS,
            registry=registry,
        ),
    )
    for result in _READ_RESULTS:
        metrics.reads.labels(result)  # exported from the start: rate() misses the first increase of a new series
    return metrics
