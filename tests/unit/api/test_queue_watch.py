"""Watching the queue: readiness, metrics, and one line of log for each change."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hitcounter.errors import StreamUnavailable
from hitcounter.health import Readiness
from hitcounter.ledger import StreamMemory, StreamStatus
from hitcounter.metrics import QueueMetrics
from hitcounter.scaling import Policy
from hitcounter_api.queue_watch import REDIS, QueueWatch
from prometheus_client import CollectorRegistry

from tests.unit.api.fakes import FakeStream, build_status

AWAY = StreamUnavailable("Redis does not answer")


class Rig:
    """A watch over a fake stream."""

    def __init__(self, stream: FakeStream | None = None, policy: Policy | None = None) -> None:
        self.stream = stream or FakeStream()
        self.registry = CollectorRegistry()
        self.readiness = Readiness(REDIS)
        self.watch = QueueWatch(self.stream, QueueMetrics(self.registry), self.readiness, policy)


async def test_it_is_not_ready_before_the_first_contact_and_says_what_it_waits_for() -> None:
    rig = Rig()
    rig.stream.trouble = AWAY
    assert not await rig.watch.watch_once()
    assert rig.readiness.problems == {REDIS: "Redis does not answer"}
    rig.stream.trouble = None
    assert await rig.watch.watch_once()
    assert rig.readiness.is_ready


async def test_a_later_outage_leaves_it_ready() -> None:
    rig = Rig()
    await rig.watch.watch_once()
    rig.stream.trouble = AWAY
    assert not await rig.watch.watch_once()
    assert rig.readiness.is_ready


async def test_the_queue_is_shown_though_no_indexer_runs() -> None:
    rig = Rig()
    rig.stream.status_now = build_status(accepted=12, indexed=2)
    await rig.watch.watch_once()
    assert rig.registry.get_sample_value("hitcounter_backlog_hits") == 10


async def test_an_old_look_at_the_queue_is_not_shown_while_redis_is_away() -> None:
    rig = Rig()
    rig.stream.status_now = build_status(accepted=12, indexed=2, as_of_ms=5000)
    await rig.watch.watch_once()
    rig.stream.trouble = AWAY
    await rig.watch.watch_once()
    shown = {metric.name for metric in rig.registry.collect() if metric.type == "gauge"}
    assert shown == {"hitcounter_as_of_timestamp_seconds"}
    rig.stream.trouble = None
    await rig.watch.watch_once()
    assert rig.registry.get_sample_value("hitcounter_backlog_hits") == 10


async def test_waiting_is_logged_once_and_so_is_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    rig = Rig()
    rig.stream.trouble = AWAY
    for _ in range(3):
        await rig.watch.watch_once()
    rig.stream.trouble = None
    for _ in range(3):
        await rig.watch.watch_once()
    output = capsys.readouterr().out
    assert output.count("waiting for Redis") == 1
    assert output.count("Redis answers") == 1


async def test_a_look_does_not_wait_for_a_redis_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging(FakeStream):
        async def status(self) -> StreamStatus:
            await asyncio.Event().wait()
            raise AssertionError

    monkeypatch.setattr("hitcounter_api.queue_watch._LOOK_MAX_SECONDS", 0.01)
    with pytest.raises(StreamUnavailable):
        await Rig(Hanging()).watch.look()


async def test_a_fault_of_our_own_does_not_end_the_watch() -> None:
    class Broken(FakeStream):
        async def status(self) -> StreamStatus:
            raise ValueError("a bug")

    assert not await Rig(Broken()).watch.watch_once()


# ── a Redis that may lose hits ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_policy_that_may_evict_keeps_a_new_process_from_being_ready() -> None:
    rig = Rig()
    rig.stream.memory_now = StreamMemory(10, 100, policy_fault="Redis may evict hits")
    assert not await rig.watch.watch_once()
    assert rig.readiness.problems == {REDIS: "Redis may evict hits"}
    rig.stream.memory_now = StreamMemory(10, 100)
    assert await rig.watch.watch_once()
    assert (rig.readiness.is_ready, rig.readiness.warnings) == (True, {})


async def test_what_may_lose_hits_is_told_by_readiness_log_and_metrics_while_it_lasts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rig = Rig()
    await rig.watch.watch_once()
    rig.stream.memory_now = StreamMemory(
        10, 100, policy_fault="Redis may evict hits", is_aof_enabled=False, evicted_keys=7
    )
    for _ in range(2):
        await rig.watch.watch_once()
    assert rig.readiness.is_ready, "reads are answered, and Track says why it refuses"
    assert rig.readiness.warnings[REDIS].startswith("Redis may evict hits; Redis has appendonly no")
    assert capsys.readouterr().out.count("Redis may lose hits") == 1
    assert rig.registry.get_sample_value("hitcounter_redis_may_evict") == 1
    assert rig.registry.get_sample_value("hitcounter_redis_aof_enabled") == 0
    assert rig.registry.get_sample_value("hitcounter_redis_evicted_keys_total") == 7
    rig.stream.memory_now = StreamMemory(10, 100, is_aof_enabled=True, evicted_keys=7)
    await rig.watch.watch_once()
    assert not rig.readiness.warnings
    assert rig.registry.get_sample_value("hitcounter_redis_may_evict") == 0


# ── how many indexers are wanted ────────────────────────────────────────────────────────────────────────────────────


class Course:
    """A watch over a stream whose ledger and clocks a test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rig: Rig | None = None) -> None:
        self.rig = rig or Rig()
        self.seconds = 0.0
        monkeypatch.setattr("hitcounter_api.queue_watch.time.monotonic", lambda: self.seconds)

    async def watch(self, *, accepted: int, indexed: int = 0, after_seconds: float = 1.0) -> int | None:
        self.seconds += after_seconds
        status = build_status(accepted=accepted, indexed=indexed)
        self.rig.stream.status_now = replace(status, now_ms=status.now_ms + round(self.seconds * 1000))
        await self.rig.watch.watch_once()
        return self.shown()

    def shown(self) -> int | None:
        shown = self.rig.registry.get_sample_value("hitcounter_indexers_wanted")
        assert shown == self.rig.watch.indexers_wanted
        return None if shown is None else int(shown)


async def test_number_of_indexers_wanted_is_shown_from_the_second_look_on(monkeypatch: pytest.MonkeyPatch) -> None:
    course = Course(monkeypatch)
    assert await course.watch(accepted=1000) is None
    assert await course.watch(accepted=15_000, indexed=13_000) == 3
    assert await course.watch(accepted=15_000, indexed=15_000, after_seconds=5.0) == 0


async def test_number_of_indexers_wanted_rises_though_no_indexer_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    course = Course(monkeypatch)
    numbers = [await course.watch(accepted=20_000 * second) for second in range(60)]
    assert numbers[1:] == sorted(number for number in numbers if number is not None)
    assert (numbers[1], numbers[-1]) == (5, 9)


async def test_number_of_indexers_wanted_is_absent_while_redis_is_away_and_is_not_averaged_over_the_outage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    course = Course(monkeypatch)
    for second in range(6):
        await course.watch(accepted=14_000 * second, indexed=14_000 * second)
    assert course.shown() == 2
    course.rig.stream.trouble = AWAY
    await course.rig.watch.watch_once()
    assert course.shown() is None
    course.rig.stream.trouble = None
    assert await course.watch(accepted=80_000, indexed=80_000, after_seconds=30.0) is None
    assert await course.watch(accepted=94_000, indexed=94_000) == 2


async def test_ledger_that_went_back_is_no_sudden_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    course = Course(monkeypatch)
    await course.watch(accepted=1_000_000, indexed=1_000_000)
    assert await course.watch(accepted=1_014_000, indexed=1_014_000) == 2
    assert await course.watch(accepted=0) is None
    assert await course.watch(accepted=14_000, indexed=14_000) == 2


async def test_number_of_indexers_wanted_follows_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(policy=Policy(hits_per_busy_second=1000, target_utilization=1.0))
    course = Course(monkeypatch, rig)
    await course.watch(accepted=0)
    assert await course.watch(accepted=14_000, indexed=14_000) == 14


# ── many who ask ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_five_hundred_looks_at_once_ask_redis_twice() -> None:
    class Counting(FakeStream):
        looks = 0

        async def status(self) -> StreamStatus:
            self.looks += 1
            await asyncio.sleep(0.01)
            return self.status_now

    stream = Counting()
    watch = Rig(stream).watch
    first = asyncio.create_task(watch.look())
    await asyncio.sleep(0.001)
    await asyncio.gather(first, *(watch.look() for _ in range(499)))
    assert stream.looks == 2


async def test_the_freshness_is_that_of_the_last_look_and_its_backlog_ends_with_an_outage() -> None:
    rig = Rig()
    assert (rig.watch.freshness.as_of_ms, rig.watch.freshness.backlog) == (None, None)
    rig.stream.status_now = build_status(accepted=7, as_of_ms=100)
    await rig.watch.watch_once()
    assert (rig.watch.freshness.as_of_ms, rig.watch.freshness.backlog) == (100, 7)
    rig.stream.trouble = AWAY
    with pytest.raises(StreamUnavailable):
        await rig.watch.look()
    assert (rig.watch.freshness.as_of_ms, rig.watch.freshness.backlog) == (100, None)


async def test_as_of_that_was_withdrawn_is_told_no_more() -> None:
    rig = Rig()
    rig.stream.status_now = build_status(accepted=7, as_of_ms=100)
    await rig.watch.look()
    rig.stream.status_now = build_status(accepted=7)
    await rig.watch.look()
    assert rig.watch.freshness.as_of_ms is None
