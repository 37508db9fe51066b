"""Metrics: how a part makes its registry. Each package declares its own metrics once, in a frozen dataclass.

What a metric means, and what to do about it, is its help text: Prometheus and Grafana show it where somebody wonders,
and docs/metrics.md is made from it. The numbers of the ledger are gauges, since Redis may step back if it loses its
last second; rates come from the counters of each process.
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
"""Stands in a help text between the meaning and the advice."""

_STATES: Final = ("accepted", "indexed", "duplicate", "dead")
_FRESHNESS_SECONDS: Final = (1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)


def explain(meaning: str, advice: str) -> str:
    """Return the help text of a metric from what it means and what to do about it, one or more sentences each."""
    return f"{meaning}{ADVICE}{advice}"


def create_registry(service: str) -> CollectorRegistry:
    """Return a registry with what every process of ours tells: its build, and the process's own figures."""
    # When a counter was made is a series more for each counter, and nobody asks: the process has its own start time.
    disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus-client
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    build = Info(
        "hitcounter_build",
        explain(
            "What runs here.",
            "Count by service and version: two versions for long are a rollout that hangs.",
        ),
        registry=registry,
    )
    build.info({"service": service, "version": __version__, "python": platform.python_version()})
    return registry


class QueueMetrics(Collector):
    """The ledger, the queue and its Redis: the same for every process that shows them, so take max, never sum.

    What is not known is not there: a number seen last would hide, by max, what other processes see, and a not-a-number
    would spread to every sum and average it meets. The as-of alone stays: it is true for ever, and only ever exceeded.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._status: StreamStatus | None = None
        self._memory: StreamMemory | None = None
        self._as_of_ms: int | None = None
        self._lag_seconds = 0.0
        self._meter = FreshnessMeter()
        self._judged_hits = Counter(
            "hitcounter_freshness_hits",
            explain(
                f"Hits by whether they were countable within {FRESH_SECONDS:g} seconds (fresh or late), decided when "
                "they are, or when the time is over. Every process that shows it counts all hits: only the ratio means "
                "something. The service level objective is 99 % fresh.",
                "If more are late: runbook, HitcounterFreshnessBudgetFastBurn.",
            ),
            ["result"],
            registry=registry,
        )
        self._freshness_seconds = Histogram(
            "hitcounter_freshness_seconds",
            explain(
                "Time from accepted to countable, to about a second: one observation for each second in which hits "
                "came.",
                "If it is above 3 s for long: look at the backlog (too few indexers), then at the duration of bulks.",
            ),
            buckets=_FRESHNESS_SECONDS,
            registry=registry,
        )
        self._fresh_hits, self._late_hits = (self._judged_hits.labels(result) for result in ("fresh", "late"))
        registry.register(self)

    def show(self, status: StreamStatus, memory: StreamMemory | None = None) -> None:
        """Show one look at the stream; later than those before it."""
        report = self._meter.look(status)
        self._fresh_hits.inc(report.fresh_hits)
        self._late_hits.inc(report.late_hits)
        for age_seconds in report.ages_seconds:
            self._freshness_seconds.observe(age_seconds)
        self._status, self._memory, self._lag_seconds = status, memory, report.lag_seconds
        if status.as_of_ms is not None:
            self._as_of_ms = status.as_of_ms

    def hide(self) -> None:
        """Show nothing of what only Redis knows: it is away."""
        self._status = self._memory = None

    def describe(self) -> Iterable[Metric]:
        """Return every metric, without values."""
        return (_build_ledger(None), *_build_queue(None, 0.0), _build_as_of(None), *_build_redis(None))

    def collect(self) -> Iterator[Metric]:
        """Return what is known."""
        if self._as_of_ms is not None:
            yield _build_as_of(self._as_of_ms)
        if self._status is not None:
            yield _build_ledger(self._status)
            yield from _build_queue(self._status, self._lag_seconds)
        if self._memory is not None:
            yield from _build_redis(self._memory)


def _build_ledger(status: StreamStatus | None) -> Metric:
    ledger = GaugeMetricFamily(
        "hitcounter_ledger_hits",
        explain(
            "Hits by what became of them (accepted, indexed, duplicate, dead), over all time: accepted = indexed + "
            "duplicate + dead + backlog.",
            "If dead rises: runbook, HitcounterDeadLetters. If all of it steps back, Redis lost data.",
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
            "Queue depth: hits accepted and not yet settled.",
            "If it rises for long, more hits arrive than are settled: more indexers, unless Elasticsearch pushes back.",
        ),
    )
    entries = GaugeMetricFamily(
        "hitcounter_backlog_entries",
        explain(
            "Entries in the stream, by whether they are queued, or in flight: delivered to an indexer and not settled.",
            "Many queued: too few indexers. Many in flight for long: indexers wait for Elasticsearch.",
        ),
        labels=["state"],
    )
    oldest = GaugeMetricFamily(
        "hitcounter_oldest_age_seconds",
        explain(
            "Age of the oldest unsettled entry; 0 for none.",
            "If it rises without end: runbook, HitcounterOldestEntryStuck.",
        ),
    )
    lag = GaugeMetricFamily(
        "hitcounter_freshness_lag_seconds",
        explain(
            "Age of the oldest hit that is not countable yet; 0 for none.",
            f"Above {FRESH_SECONDS:g} s readers notice. With a backlog, indexers lack; without one, only the refresh "
            "does.",
        ),
    )
    if status is not None:
        hits.add_metric([], status.ledger.backlog)
        entries.add_metric(["queued"], status.entries - status.entries_in_flight)
        entries.add_metric(["in_flight"], status.entries_in_flight)
        oldest.add_metric([], status.oldest_age_seconds)
        lag.add_metric([], lag_seconds)
    return hits, entries, oldest, lag


def _build_as_of(as_of_ms: int | None) -> Metric:
    as_of = GaugeMetricFamily(
        "hitcounter_as_of_timestamp_seconds",
        explain(
            "Every hit accepted before this Unix time is countable or a dead letter. Absent until it is known.",
            "If it stands still over a backlog: nobody indexes, or one entry cannot be settled.",
        ),
    )
    if as_of_ms is not None:
        as_of.add_metric([], as_of_ms / 1000)
    return as_of


def _build_redis(memory: StreamMemory | None) -> tuple[Metric, ...]:
    may_evict = GaugeMetricFamily(
        "hitcounter_redis_may_evict",
        explain(
            "1 if Redis has another maxmemory-policy than noeviction, or does not show it and no setting vouches for "
            "it: every hit is refused; else 0.",
            "If it is 1: runbook, HitcounterRedisMayEvict.",
        ),
    )
    evicted = CounterMetricFamily(
        "hitcounter_redis_evicted_keys",
        explain(
            "Keys that Redis has evicted since it started. Absent if it does not tell.",
            "If it rises, acknowledged hits may be lost: runbook, HitcounterRedisEvicted.",
        ),
    )
    aof = GaugeMetricFamily(
        "hitcounter_redis_aof_enabled",
        explain(
            "1 if Redis writes to an append-only file, else 0. Absent if it does not tell.",
            "If it is 0, what is not indexed is lost when Redis ends: runbook, HitcounterRedisNotPersistent.",
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
            "Memory that Redis uses, the backlog included.",
            "If it nears the capacity: runbook, HitcounterRedisNearlyFull. A full Redis refuses hits and keeps what it "
            "has.",
        ),
    )
    capacity = GaugeMetricFamily(
        "hitcounter_redis_capacity_bytes",
        explain(
            "Memory that Redis may use: its maxmemory, or that of its machine where it has none. Absent if neither is "
            "told.",
            "Set maxmemory, well below what the machine or the container has.",
        ),
    )
    if memory is not None:
        if memory.used_bytes:
            used.add_metric([], memory.used_bytes)
        if memory.capacity_bytes:
            capacity.add_metric([], memory.capacity_bytes)
    return used, capacity
