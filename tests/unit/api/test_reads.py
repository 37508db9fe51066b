"""Reads during normal operation and during outages."""

from __future__ import annotations

import asyncio

import pytest
from hitcounter.errors import IndexUnavailable
from hitcounter_api.coalescing import TooManyCalls
from hitcounter_api.counts import HISTORIES, Counts
from hitcounter_api.queue_watch import Freshness
from hitcounter_api.reads import Answer, Reads

from tests.unit.api.fakes import NOW_MS, FakeReader, build_metrics

AWAY = IndexUnavailable("Elasticsearch does not answer")


class Rig:
    """Reads over a fake reader. It is itself what they ask for the freshness."""

    def __init__(self, *, max_concurrent: int = 4, max_wait_seconds: float = 10, remembered_ids: int = 3) -> None:
        self.reader = FakeReader()
        self.metrics, self.registry = build_metrics()
        self.freshness = Freshness(None, None)
        self.reads = Reads(
            self.reader,
            self,
            self.metrics,
            max_concurrent=max_concurrent,
            max_wait_seconds=max_wait_seconds,
            remembered_ids=remembered_ids,
        )

    def set_queue(self, *, as_of_ms: int | None, backlog: int | None) -> None:
        self.freshness = Freshness(as_of_ms, backlog)

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


class Searches:
    """Has each search wait until it may end, and counts those under way."""

    def __init__(self, rig: Rig) -> None:
        rig.reader.gate = self._hang
        self.begun = 0
        self.under_way = 0
        self.most_under_way = 0
        self._release = asyncio.Event()
        self._changed = asyncio.Event()

    async def _hang(self) -> None:
        self.begun += 1
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        self._changed.set()
        try:
            await self._release.wait()
        finally:
            self.under_way -= 1

    async def begin(self, number: int) -> None:
        """Wait until so many have begun."""
        while self.begun < number:
            self._changed.clear()
            await self._changed.wait()

    def end(self) -> None:
        """Let those under way end, and those to come."""
        self._release.set()


async def test_reads_beyond_the_bound_wait_for_a_place_and_all_are_answered_fresh() -> None:
    rig = Rig(max_concurrent=2)
    searches = Searches(rig)
    reading = [asyncio.create_task(rig.read(f"id-{number}")) for number in range(20)]
    await searches.begin(2)
    searches.end()
    answers = await asyncio.gather(*reading)
    assert not any(answer.is_stale for answer in answers)
    assert searches.most_under_way == 2


async def test_a_read_that_waits_too_long_is_refused_though_it_is_remembered() -> None:
    rig = Rig(max_concurrent=1, max_wait_seconds=0.02)
    await rig.read("known")
    searches = Searches(rig)
    hanging = asyncio.create_task(rig.read("other"))
    await searches.begin(1)
    with pytest.raises(TooManyCalls, match="no place was free"):
        await rig.read("known")  # not as stale: Elasticsearch has not failed
    assert (rig.counted("full"), rig.counted("stale")) == (1, 0)
    searches.end()
    await hanging
    assert not (await rig.read("known")).is_stale


async def test_more_reads_than_may_wait_are_refused_at_once() -> None:
    rig = Rig(max_concurrent=1)
    searches = Searches(rig)
    reading = [asyncio.create_task(rig.read(f"id-{number}")) for number in range(40)]
    await searches.begin(1)
    refused = [task for task in reading if task.done()]
    assert 0 < len(refused) < 10
    assert all(isinstance(task.exception(), TooManyCalls) for task in refused)
    searches.end()
    await asyncio.gather(*(task for task in reading if task not in refused))


async def test_a_hundred_equal_reads_share_the_search_that_begins_after_they_asked() -> None:
    rig = Rig()
    searches = Searches(rig)
    first = asyncio.create_task(rig.read())
    await searches.begin(1)
    rig.set_queue(as_of_ms=200, backlog=0)  # which those who ask now may know of
    others = [asyncio.create_task(rig.read()) for _ in range(99)]
    await asyncio.sleep(0)
    searches.end()
    assert (await first).freshness.as_of_ms is None
    assert {(await other).freshness.as_of_ms for other in others} == {200}
    assert searches.begun == 2
    assert rig.counted("fresh") == 100


async def test_who_waits_behind_a_search_that_fails_shares_its_failure() -> None:
    rig = Rig()
    searches = Searches(rig)
    rig.reader.trouble = AWAY
    reading = [asyncio.create_task(rig.read())]
    await searches.begin(1)
    reading += [asyncio.create_task(rig.read()) for _ in range(5)]
    await asyncio.sleep(0)
    searches.end()
    answers = await asyncio.gather(*reading, return_exceptions=True)
    assert all(isinstance(answer, IndexUnavailable) for answer in answers)
    assert searches.begun == 1, "nobody waits for two outages in a row"
    rig.reader.trouble = None
    assert not (await rig.read()).is_stale


async def test_a_reader_that_hangs_up_takes_the_answer_from_nobody() -> None:
    rig = Rig()
    searches = Searches(rig)
    leaving, staying = asyncio.create_task(rig.read()), asyncio.create_task(rig.read())
    await searches.begin(1)
    leaving.cancel()
    await asyncio.wait([leaving])
    searches.end()
    assert not (await staying).is_stale
    assert searches.begun == 1


async def test_a_slow_search_never_takes_the_place_of_a_newer_answer() -> None:
    rig = Rig()
    begun: asyncio.Queue[asyncio.Event] = asyncio.Queue()

    async def read(_id: str, now_ms: int) -> Counts:
        await begun.put(release := asyncio.Event())
        await release.wait()
        return (now_ms,) * 5

    rig.reader.read = read  # type: ignore[method-assign, assignment]
    clock = iter(range(1, 10))
    slow = asyncio.create_task(rig.reads.read("a", lambda: next(clock)))
    first = await begun.get()
    quick = asyncio.create_task(rig.reads.read("a", lambda: next(clock)))
    await asyncio.sleep(0.01)
    assert begun.empty(), "the searches of one id follow each other"
    first.set()
    assert (await slow).counts[0] == 1
    (await begun.get()).set()
    assert (await quick).counts[0] == 2
    del rig.reader.read
    rig.reader.trouble = AWAY
    assert (await rig.read()).counts[0] == 2


async def test_a_history_is_fresh_or_an_error_and_never_remembered() -> None:
    rig = Rig()
    rig.set_queue(as_of_ms=100, backlog=7)
    steps = HISTORIES["minute"]
    answer = await rig.reads.read_history("a", steps, lambda: NOW_MS)
    assert answer == Answer(rig.reader.history(steps), NOW_MS, Freshness(100, 7))
    rig.reader.trouble = AWAY
    with pytest.raises(IndexUnavailable):
        await rig.reads.read_history("a", steps, lambda: NOW_MS)
    assert (rig.counted("fresh"), rig.counted("refused")) == (1, 1)
    assert rig.registry.get_sample_value("hitcounter_read_duration_seconds_count") == 1


async def test_histories_and_counts_share_one_bound() -> None:
    rig = Rig(max_concurrent=1, max_wait_seconds=0.02)
    hung, release = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        hung.set()
        await release.wait()

    rig.reader.gate = hang
    hanging = asyncio.create_task(rig.reads.read_history("a", HISTORIES["hour"], lambda: NOW_MS))
    await hung.wait()
    with pytest.raises(TooManyCalls):
        await rig.read("a")
    release.set()
    await hanging
