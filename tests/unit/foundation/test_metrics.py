from __future__ import annotations

from hitcounter import __version__
from hitcounter.ledger import Ledger, StreamStatus
from hitcounter.metrics import QueueMetrics, create_registry
from prometheus_client import CollectorRegistry

STATUS = StreamStatus(
    ledger=Ledger(accepted=100, indexed=60, duplicate=5, dead=3),
    entries=7,
    oldest_ms=1_000,
    as_of_ms=1_500,
    now_ms=3_500,
)


def test_registry_tells_which_service_in_which_version_runs() -> None:
    build = next(metric for metric in create_registry("indexer").collect() if metric.name == "hitcounter_build")
    assert build.samples[0].labels.items() >= {"service": "indexer", "version": __version__}.items()


def test_each_registry_is_one_of_its_own() -> None:
    assert create_registry("api") is not create_registry("api")


def test_look_at_the_stream_shows_as_ledger_backlog_age_and_as_of() -> None:
    registry = CollectorRegistry()
    QueueMetrics(registry).show(STATUS)
    shown = {
        state: registry.get_sample_value("hitcounter_ledger_hits", {"state": state})
        for state in ("accepted", "indexed", "duplicate", "dead")
    }
    assert shown == {"accepted": 100, "indexed": 60, "duplicate": 5, "dead": 3}
    assert registry.get_sample_value("hitcounter_backlog_hits") == 32
    assert registry.get_sample_value("hitcounter_backlog_entries") == 7
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
