"""Reads in good and in bad weather."""

from __future__ import annotations

import asyncio

import pytest
from hitcounter.errors import IndexUnavailable, StreamUnavailable
from hitcounter.health import Readiness
from hitcounter.metrics import QueueMetrics
from hitcounter_api.counts import HISTORIES
from hitcounter_api.queue_watch import Freshness, QueueWatch
from hitcounter_api.reads import Answer, Reads
from prometheus_client import CollectorRegistry

from tests.unit.api.fakes import NOW_MS, FakeReader, FakeStream, build_metrics, build_status

AWAY = IndexUnavailable("Elasticsearch does not answer")


class Rig:
    """Reads over a fake stream and a fake reader."""

    def __init__(self, *, max_concurrent: int = 4, remembered_ids: int = 3) -> None:
        self.stream = FakeStream()
        self.reader = FakeReader()
        self.metrics, self.registry = build_metrics()
        self.watch = QueueWatch(self.stream, QueueMetrics(CollectorRegistry()), Readiness())
        self.reads = Reads(
            self.reader, self.watch, self.metrics, max_concurrent=max_concurrent, remembered_ids=remembered_ids
        )

    def set_queue(self, *, as_of_ms: int | None, backlog: int) -> None:
        self.stream.status_now = build_status(accepted=backlog, as_of_ms=as_of_ms)

    async def read(self, id_: str = "a") -> Answer:
        return await self.reads.read(id_, lambda: NOW_MS)

    def counted(self, result: str) -> float | None:
        return self.registry.get_sample_value("hitcounter_reads_total", {"result": result})


async def test_a_read_carries_the_as_of_from_before_its_search() -> None:
    rig = Rig()
    rig.set_queue(as_of_ms=100, backlog=7)

    async def publish_while_searching() -> None:
        rig.set_queue(as_of_ms=200, backlog=0)

    rig.reader.gate = publish_while_searching
    assert await rig.read() == Answer((5, 4, 3, 2, 1), NOW_MS, Freshness(100, 7))


async def test_the_as_of_is_not_later_than_the_windows_where_the_clock_is_behind_that_of_redis() -> None:
    rig = Rig()
    rig.set_queue(as_of_ms=10_000, backlog=7)
    answer = await rig.reads.read("a", lambda: 9_000)
    assert rig.reader.asked == [("a", 9_000)]
    assert answer.freshness == Freshness(9_000, 7)


async def test_the_last_known_as_of_is_answered_while_redis_is_away_and_no_backlog() -> None:
    rig = Rig()
    rig.set_queue(as_of_ms=100, backlog=7)
    await rig.read()
    rig.stream.trouble = StreamUnavailable("away")
    assert (await rig.read()).freshness == Freshness(100, None)


async def test_no_as_of_is_invented() -> None:
    rig = Rig()
    rig.stream.trouble = StreamUnavailable("away")
    assert (await rig.read()).freshness == Freshness(None, None)


async def test_last_known_counts_are_answered_with_their_own_as_of_while_elasticsearch_is_away() -> None:
    rig = Rig()
    rig.set_queue(as_of_ms=100, backlog=7)
    await rig.read()
    rig.reader.trouble = AWAY
    rig.set_queue(as_of_ms=200, backlog=9)
    assert await rig.read() == Answer((5, 4, 3, 2, 1), NOW_MS, Freshness(100, 9), is_stale=True)
    assert (rig.counted("fresh"), rig.counted("stale")) == (1, 1)


async def test_an_id_never_read_gets_the_error_and_no_zero() -> None:
    rig = Rig()
    rig.reader.trouble = AWAY
    with pytest.raises(IndexUnavailable):
        await rig.read()
    assert rig.counted("refused") == 1


async def test_only_the_ids_read_last_are_remembered() -> None:
    rig = Rig(remembered_ids=2)
    for id_ in ("a", "b", "a", "c"):
        await rig.read(id_)
    rig.reader.trouble = AWAY
    assert (await rig.read("a")).is_stale
    assert (await rig.read("c")).is_stale
    with pytest.raises(IndexUnavailable):
        await rig.read("b")


async def test_nothing_is_remembered_where_that_is_switched_off() -> None:
    rig = Rig(remembered_ids=0)
    await rig.read()
    rig.reader.trouble = AWAY
    with pytest.raises(IndexUnavailable):
        await rig.read()


async def test_reads_beyond_the_bound_do_not_reach_elasticsearch() -> None:
    rig = Rig(max_concurrent=2)
    hung, release = asyncio.Semaphore(0), asyncio.Event()

    async def hang() -> None:
        hung.release()
        await release.wait()

    rig.reader.gate = hang
    hanging = [asyncio.create_task(rig.read(id_)) for id_ in ("a", "b")]
    for _ in hanging:
        await hung.acquire()
    with pytest.raises(IndexUnavailable, match="too many reads"):
        await rig.read("c")
    release.set()
    await asyncio.gather(*hanging)
    assert not (await rig.read("c")).is_stale
    assert [id_ for id_, _ in rig.reader.asked] == ["a", "b", "c"]


async def test_a_history_is_fresh_or_an_error_and_never_remembered() -> None:
    rig = Rig()
    rig.set_queue(as_of_ms=100, backlog=7)
    steps = HISTORIES["minute"]
    answer = await rig.reads.read_history("a", steps, lambda: NOW_MS)
    assert answer == Answer(rig.reader.history(steps), NOW_MS, Freshness(100, 7))
    rig.reader.trouble = AWAY
    with pytest.raises(IndexUnavailable):
        await rig.reads.read_history("a", steps, lambda: NOW_MS)


async def test_histories_and_counts_share_one_bound() -> None:
    rig = Rig(max_concurrent=1)
    hung, release = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        hung.set()
        await release.wait()

    rig.reader.gate = hang
    hanging = asyncio.create_task(rig.reads.read_history("a", HISTORIES["hour"], lambda: NOW_MS))
    await hung.wait()
    with pytest.raises(IndexUnavailable, match="too many reads"):
        await rig.read("a")
    release.set()
    await hanging
