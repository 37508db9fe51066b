from __future__ import annotations

from hitcounter import __version__
from hitcounter.ledger import Ledger, StreamMemory, StreamStatus
from hitcounter.metrics import QueueMetrics, create_registry
from prometheus_client import CollectorRegistry

STATUS = StreamStatus(
    ledger=Ledger(accepted=100, indexed=60, duplicate=5, dead=3),
    entries=7,
    oldest_ms=1_000,
    as_of_ms=1_500,
    now_ms=3_500,
    entries_in_flight=3,
)


def test_registry_tells_which_service_in_which_version_runs() -> None:
    build = next(metric for metric in create_registry("indexer").collect() if metric.name == "hitcounter_build")
    assert build.samples[0].labels.items() >= {"service": "indexer", "version": __version__}.items()


def test_each_registry_is_one_of_its_own() -> None:
    assert create_registry("api") is not create_registry("api")


def test_status_is_exported_as_ledger_backlog_age_and_as_of() -> None:
    registry = CollectorRegistry()
    QueueMetrics(registry).show(STATUS)
    shown = {
        state: registry.get_sample_value("hitcounter_ledger_hits", {"state": state})
        for state in ("accepted", "indexed", "duplicate", "dead")
    }
    assert shown == {"accepted": 100, "indexed": 60, "duplicate": 5, "dead": 3}
    assert registry.get_sample_value("hitcounter_backlog_hits") == 32
    assert registry.get_sample_value("hitcounter_backlog_entries", {"state": "queued"}) == 4
    assert registry.get_sample_value("hitcounter_backlog_entries", {"state": "in_flight"}) == 3
    assert registry.get_sample_value("hitcounter_oldest_age_seconds") == 2.5
    assert registry.get_sample_value("hitcounter_as_of_timestamp_seconds") == 1.5


def test_ledger_that_stepped_back_is_shown_as_it_is() -> None:
    registry = CollectorRegistry()
    metrics = QueueMetrics(registry)
    metrics.show(STATUS)
    metrics.show(StreamStatus(Ledger(accepted=99, indexed=60), entries=1, oldest_ms=None, as_of_ms=None, now_ms=4_000))
    assert registry.get_sample_value("hitcounter_ledger_hits", {"state": "accepted"}) == 99
    assert registry.get_sample_value("hitcounter_oldest_age_seconds") == 0


def test_as_of_stands_still_while_nobody_publishes_one() -> None:
    registry = CollectorRegistry()
    metrics = QueueMetrics(registry)
    metrics.show(STATUS)
    metrics.show(StreamStatus(Ledger(), entries=0, oldest_ms=None, as_of_ms=None, now_ms=4_000))
    assert registry.get_sample_value("hitcounter_as_of_timestamp_seconds") == 1.5


def test_what_is_not_known_is_not_shown() -> None:
    registry = CollectorRegistry()
    metrics = QueueMetrics(registry)
    gauges = [metric for metric in registry.collect() if metric.type == "gauge"]
    assert gauges == []
    metrics.show(STATUS, StreamMemory(used_bytes=5, capacity_bytes=0))
    assert registry.get_sample_value("hitcounter_redis_memory_bytes") == 5
    assert registry.get_sample_value("hitcounter_redis_capacity_bytes") is None
    metrics.hide()
    assert {metric.name for metric in registry.collect() if metric.type == "gauge"} == {
        "hitcounter_as_of_timestamp_seconds"
    }


def test_freshness_is_counted_and_its_lag_shown() -> None:
    registry = CollectorRegistry()
    metrics = QueueMetrics(registry)
    for accepted, as_of_ms, now_ms in [(0, 500, 1_000), (9, 1_500, 2_000), (9, 2_500, 3_000)]:
        metrics.show(StreamStatus(Ledger(accepted=accepted), 0, None, as_of_ms, now_ms), StreamMemory(50, 100))
    assert registry.get_sample_value("hitcounter_freshness_hits_total", {"result": "fresh"}) == 9
    assert registry.get_sample_value("hitcounter_freshness_hits_total", {"result": "late"}) == 0
    assert registry.get_sample_value("hitcounter_freshness_seconds_sum") == 1
    assert registry.get_sample_value("hitcounter_freshness_lag_seconds") == 0
    assert registry.get_sample_value("hitcounter_redis_capacity_bytes") == 100


def test_a_counter_is_one_series_and_not_two() -> None:
    registry = create_registry("api")
    QueueMetrics(registry)
    assert not [name for metric in registry.collect() for name, *_ in metric.samples if name.endswith("_created")]
