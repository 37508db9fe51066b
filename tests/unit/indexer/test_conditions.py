from __future__ import annotations

import asyncio
import contextlib

import pytest
from hitcounter.errors import IndexUnavailable, StreamUnavailable
from hitcounter.health import Readiness
from hitcounter_indexer.conditions import ELASTICSEARCH, REDIS, Conditions
from hitcounter_indexer.lifecycle import Lifecycle
from hitcounter_indexer.metrics import BusyClock, create_metrics
from prometheus_client import CollectorRegistry, Counter


async def test_pause_lasts_as_long_as_asked_for() -> None:
    loop = asyncio.get_running_loop()
    start = loop.time()
    await Lifecycle().pause(0.02)
    assert loop.time() - start >= 0.019


async def test_pause_ends_when_the_indexer_is_to_stop_and_no_later_one_begins() -> None:
    lifecycle = Lifecycle()
    pausing = asyncio.create_task(lifecycle.pause(3600))
    await asyncio.sleep(0)
    lifecycle.stop()
    async with asyncio.timeout(5):
        await pausing
        await lifecycle.pause(3600)
    assert lifecycle.is_stopping


@pytest.mark.parametrize(
    ("error", "server"), [(StreamUnavailable("away"), REDIS), (IndexUnavailable("away"), ELASTICSEARCH)]
)
def test_problem_is_reported_for_the_server_it_came_from(
    error: StreamUnavailable | IndexUnavailable, server: str
) -> None:
    registry, readiness = CollectorRegistry(), Readiness()
    conditions = Conditions(readiness, create_metrics(registry))
    conditions.note_problem(error)
    conditions.note_problem(error)
    assert readiness.problems == {server: "away"}
    assert registry.get_sample_value("hitcounter_failures_total", {"where": server}) == 2
    conditions.note_available(server)
    assert readiness.is_ready


# ── the clock of the busy ───────────────────────────────────────────────────────────────────────────────────────────


def test_time_in_which_several_workers_are_busy_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    registry, now = CollectorRegistry(), [100.0]
    monkeypatch.setattr("hitcounter_indexer.metrics.time.monotonic", lambda: now[0])
    clock = BusyClock(Counter("busy_seconds", "Time.", registry=registry))
    with clock.running():
        now[0] = 101.0
        with clock.running():
            now[0] = 103.0
        now[0] = 104.0
    now[0] = 200.0
    with clock.running():
        now[0] = 200.5
    assert registry.get_sample_value("busy_seconds_total") == 4.5


def test_time_is_counted_while_workers_alternate_and_one_is_always_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    registry, now = CollectorRegistry(), [100.0]
    monkeypatch.setattr("hitcounter_indexer.metrics.time.monotonic", lambda: now[0])
    clock = BusyClock(Counter("busy_seconds", "Time.", registry=registry))
    with contextlib.ExitStack() as first, contextlib.ExitStack() as second:
        first.enter_context(clock.running())
        now[0] = 101.0
        second.enter_context(clock.running())
        now[0] = 102.0
        first.close()
        assert registry.get_sample_value("busy_seconds_total") == 2


def test_time_is_counted_up_to_the_moment_when_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    registry, now = CollectorRegistry(), [100.0]
    monkeypatch.setattr("hitcounter_indexer.metrics.time.monotonic", lambda: now[0])
    clock = BusyClock(Counter("busy_seconds", "Time.", registry=registry))
    with clock.running():
        now[0] = 103.0
        assert clock.read_seconds() == 3.0
        now[0] = 104.0
    now[0] = 200.0
    assert clock.read_seconds() == 4.0
    assert registry.get_sample_value("busy_seconds_total") == 4.0


def test_worker_that_fails_is_no_longer_busy() -> None:
    registry = CollectorRegistry()
    clock = BusyClock(Counter("busy_seconds", "Time.", registry=registry))
    with pytest.raises(ZeroDivisionError), clock.running():
        raise ZeroDivisionError
    counted = registry.get_sample_value("busy_seconds_total")
    with clock.running():
        pass
    assert (registry.get_sample_value("busy_seconds_total") or 0) >= (counted or 0)
