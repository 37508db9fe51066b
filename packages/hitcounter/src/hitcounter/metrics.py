"""Metrics: builds the Prometheus registry of a service, and the metrics that every service shares.

Each package declares its own metrics once, in a frozen dataclass. The help text of a metric says what it means and what
to do about it; Prometheus and Grafana show it, and docs/metrics.md is generated from it. The values of the ledger are
gauges, because they can decrease when Redis loses its last second. Rates come from the counters of each process.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, Info, disable_created_metrics
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from hitcounter import __version__
from hitcounter.freshness import FRESH_SECONDS, FreshnessMeter
from hitcounter.ledger import StreamMemory, StreamStatus

ADVICE: Final = " What to do: "
"""Separates the meaning and the advice in a help text."""

_STATES: Final = ("accepted", "indexed", "duplicate", "dead")
_FRESHNESS_SECONDS: Final = (1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)


def explain(meaning: str, advice: str) -> str:
    """Return the help text of a metric: what it means and what to do about it, one or more sentences each."""
    return f"{meaning}{ADVICE}{advice}"


def create_registry(service: str) -> CollectorRegistry:
    """Return a registry with the metrics that every process has: build, CPU, memory, files."""
    # No `_created` series: one more for each counter, and the process already has its start time.
    disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus-client
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    build = Info(
        "hitcounter_build",
        explain(
            "The running version, as labels. The value is always 1.",
            "Count by service and version. Two versions for a long time: a rollout hangs.",
        ),
        registry=registry,
    )
    build.info({"service": service, "version": __version__, "python": platform.python_version()})
    return registry


class QueueMetrics(Collector):
    """Metrics of the ledger, the queue and its Redis. Every process exports the same values: use max, never sum.

    A value that is not known is not exported. An old value would win over newer ones of other processes when max is
    used, and NaN would make every sum and average NaN. Only the as-of is exported on, because it stays true.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._status: StreamStatus | None = None
        self._memory: StreamMemory | None = None
        self._indexers_wanted: int | None = None
        self._as_of_ms: int | None = None
        self._lag_seconds = 0.0
        self._meter = FreshnessMeter()
        self._judged_hits = Counter(
            "hitcounter_freshness_hits",
            explain(
                f"Hits that became countable within {FRESH_SECONDS:g} seconds (fresh) and those that did not (late). A "
                f"hit is counted as late after {FRESH_SECONDS:g} seconds, not when it becomes countable. Every process "
                "counts all hits: use only the ratio. The service level objective is 99 % fresh.",
                "If less than 99 % is fresh: runbook, HitcounterFreshnessBudgetFastBurn.",
            ),
            ["result"],
            registry=registry,
        )
        self._freshness_seconds = Histogram(
            "hitcounter_freshness_seconds",
            explain(
                "Seconds from accepted to countable, accurate to about one second. One observation for each second in "
                "which hits arrived.",
                "If it stays above 3 s: check the backlog (too few indexers), then the duration of bulks.",
            ),
            buckets=_FRESHNESS_SECONDS,
            registry=registry,
        )
        self._fresh_hits, self._late_hits = (self._judged_hits.labels(result) for result in ("fresh", "late"))
        registry.register(self)

    def show(
        self, status: StreamStatus, memory: StreamMemory | None = None, indexers_wanted: int | None = None
    ) -> None:
        """Export a new status of the stream. It must be newer than the previous one."""
        report = self._meter.observe(status)
        self._fresh_hits.inc(report.fresh_hits)
        self._late_hits.inc(report.late_hits)
        for age_seconds in report.ages_seconds:
            self._freshness_seconds.observe(age_seconds)
        self._status, self._memory, self._lag_seconds = status, memory, report.lag_seconds
        self._indexers_wanted = indexers_wanted
        if status.as_of_ms is not None:
            self._as_of_ms = status.as_of_ms

    def hide(self) -> None:
        """Stop exporting what only Redis knows, because Redis does not answer."""
        self._status = self._memory = self._indexers_wanted = None

    def describe(self) -> Iterable[Metric]:
        """Return every metric, without values."""
        return (
            _build_ledger(None),
            *_build_queue(None, 0.0),
            _build_wanted(None),
            _build_as_of(None),
            *_build_redis(None),
        )

    def collect(self) -> Iterator[Metric]:
        """Return what is known."""
        if self._as_of_ms is not None:
            yield _build_as_of(self._as_of_ms)
        if self._status is not None:
            yield _build_ledger(self._status)
            yield from _build_queue(self._status, self._lag_seconds)
        if self._indexers_wanted is not None:
            yield _build_wanted(self._indexers_wanted)
        if self._memory is not None:
            yield from _build_redis(self._memory)


def _build_ledger(status: StreamStatus | None) -> Metric:
    ledger = GaugeMetricFamily(
        "hitcounter_ledger_hits",
        explain(
            "Hits of the ledger by state (accepted, indexed, duplicate, dead), since the installation began: accepted "
            "= indexed + duplicate + dead + backlog.",
            "If dead rises: runbook, HitcounterDeadLetters. If all values decrease, Redis lost data.",
        ),
        labels=["state"],
    )
    if status is not None:
        for state in _STATES:
            ledger.add_metric([state], getattr(status.ledger, state))
    return ledger


def _build_queue(status: StreamStatus | None, lag_seconds: float) -> tuple[Metric, ...]:
    hits = GaugeMetricFamily(
        "hitcounter_backlog_hits",
        explain(
            "Consumer lag (queue depth): hits accepted and not yet settled.",
            "If it keeps rising, more hits arrive than are settled: add indexers, unless Elasticsearch applies "
            "backpressure.",
        ),
    )
    entries = GaugeMetricFamily(
        "hitcounter_backlog_entries",
        explain(
            "Entries in the stream: queued (not delivered yet) or in_flight (delivered to an indexer, not settled).",
            "Many queued: too few indexers. Many in flight for a long time: indexers wait for Elasticsearch.",
        ),
        labels=["state"],
    )
    oldest = GaugeMetricFamily(
        "hitcounter_oldest_age_seconds",
        explain(
            "Age of the oldest unsettled entry in seconds; 0 if there is none.",
            "If it keeps rising: runbook, HitcounterOldestEntryStuck.",
        ),
    )
    lag = GaugeMetricFamily(
        "hitcounter_freshness_lag_seconds",
        explain(
            "Age of the oldest hit that is not countable yet, in seconds; 0 if there is none.",
            f"Above {FRESH_SECONDS:g} s readers notice. With a backlog: too few indexers. Without one: the refresh of "
            "the indices is late or fails; see /readyz of the indexers.",
        ),
    )
    if status is not None:
        hits.add_metric([], status.ledger.backlog)
        entries.add_metric(["queued"], status.entries - status.entries_in_flight)
        entries.add_metric(["in_flight"], status.entries_in_flight)
        oldest.add_metric([], status.oldest_age_seconds)
        lag.add_metric([], lag_seconds)
    return hits, entries, oldest, lag


def _build_wanted(indexers: int | None) -> Metric:
    wanted = GaugeMetricFamily(
        "hitcounter_indexers_wanted",
        explain(
            "Number of indexers that the arrival rate and the backlog need, before bounds. Autoscalers use its maximum "
            "over all processes. Absent while it is unknown: for a second after a start, while Redis does not answer, "
            "after Redis lost data, and while Elasticsearch accepts nothing.",
            "If it stays above the maximum number of replicas: raise that, if Elasticsearch keeps up. Absent for long: "
            "check Redis and Elasticsearch.",
        ),
    )
    if indexers is not None:
        wanted.add_metric([], indexers)
    return wanted


def _build_as_of(as_of_ms: int | None) -> Metric:
    as_of = GaugeMetricFamily(
        "hitcounter_as_of_timestamp_seconds",
        explain(
            "Completeness time (as-of) in Unix seconds: every hit accepted before it is countable or a dead letter. "
            "Absent until it is known.",
            "If it does not advance while there is a backlog: no indexer runs, or one entry cannot be settled.",
        ),
    )
    if as_of_ms is not None:
        as_of.add_metric([], as_of_ms / 1000)
    return as_of


def _build_redis(memory: StreamMemory | None) -> tuple[Metric, ...]:
    may_evict = GaugeMetricFamily(
        "hitcounter_redis_may_evict",
        explain(
            "1 if Redis has a maxmemory-policy other than noeviction, or hides it and "
            "HITCOUNTER_REDIS__TRUST_MEMORY_POLICY is not set; else 0. While it is 1, the API refuses every hit.",
            "If it is 1: runbook, HitcounterRedisMayEvict.",
        ),
    )
    evicted = CounterMetricFamily(
        "hitcounter_redis_evicted_keys",
        explain(
            "Keys that Redis has evicted since it started. Absent if Redis does not report it.",
            "If it rises, acknowledged hits may be lost: runbook, HitcounterRedisEvicted.",
        ),
    )
    aof = GaugeMetricFamily(
        "hitcounter_redis_aof_enabled",
        explain(
            "1 if Redis writes an append-only file, else 0. Absent if Redis does not report it.",
            "If it is 0, hits that are not indexed are lost when Redis stops: runbook, HitcounterRedisNotPersistent.",
        ),
    )
    if memory is not None:
        may_evict.add_metric([], bool(memory.policy_fault))
        if memory.evicted_keys is not None:
            evicted.add_metric([], memory.evicted_keys)
        if memory.is_aof_enabled is not None:
            aof.add_metric([], memory.is_aof_enabled)
    return (*_build_memory(memory), may_evict, evicted, aof)


def _build_memory(memory: StreamMemory | None) -> tuple[Metric, ...]:
    used = GaugeMetricFamily(
        "hitcounter_redis_memory_bytes",
        explain(
            "Memory that Redis uses, in bytes, including the backlog.",
            "If it comes close to the capacity: runbook, HitcounterRedisNearlyFull. A full Redis refuses new hits and "
            "keeps the accepted ones.",
        ),
    )
    capacity = GaugeMetricFamily(
        "hitcounter_redis_capacity_bytes",
        explain(
            "Memory that Redis may use, in bytes: its maxmemory, or the memory of its machine if maxmemory is not set. "
            "Absent if Redis reports neither.",
            "Set maxmemory well below the memory of the machine or container.",
        ),
    )
    if memory is not None:
        if memory.used_bytes:
            used.add_metric([], memory.used_bytes)
        if memory.capacity_bytes:
            capacity.add_metric([], memory.capacity_bytes)
    return used, capacity
