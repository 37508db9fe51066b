"""The indexer's loops: starting, reading, keeping claims, stopping."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hitcounter.codec import READER_VERSION
from hitcounter.entries import Entry
from hitcounter.errors import IndexUnavailable
from hitcounter.hits import Hit
from hitcounter.ledger import IndexerWork
from hitcounter.v1.hit_pb2 import HitBatch as HitBatchMessage

from tests.unit.indexer.fakes import BUSY, NOW_MS, REDIS_AWAY, REFUSED, SINK_AWAY, Rig, running, until


def hit(id_: str) -> Hit:
    return Hit(id_, NOW_MS)


# ── starting ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_group_is_made_before_the_first_read(rig: Rig) -> None:
    async with running(rig.indexer()):
        await until(lambda: rig.calls("read"))
    assert next(iter(rig.journal)) == ("group", None)


async def test_template_and_the_indices_of_today_and_tomorrow_are_made(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hitcounter_indexer.indexer.time.time_ns", lambda: NOW_MS * 1_000_000)
    await rig.indexer().run_until_empty()
    assert rig.calls("indices", "template") == [
        ("indices", ["hits-2026.11.24"]),
        ("indices", ["hits-2026.11.25"]),
        ("template", None),
    ]


async def test_hits_are_counted_while_tomorrows_index_and_the_template_cannot_be_made(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 14, 7: a shard limit, or a stranger's index or template, kept an indexer from starting."""
    monkeypatch.setattr("hitcounter_indexer.indexer._MAINTAIN_INDICES_SECONDS", 0.01)
    refusal = IndexUnavailable("this action would add [2] shards, but this cluster has [1000]/[1000]", status=400)
    rig.indices.refusals = {"hits-2026.11.25": refusal, "template": refusal}
    monkeypatch.setattr("hitcounter_indexer.indexer.time.time_ns", lambda: NOW_MS * 1_000_000)
    rig.stream.add(hit("a"))
    async with running(rig.indexer()):
        await until(lambda: rig.counts == {"a": 1})
        await until(lambda: rig.readiness.is_ready)
        assert rig.readiness.warnings.keys() == {"tomorrow's index", "index template"}
        tries = len(rig.calls("indices"))
        await until(lambda: len(rig.calls("indices")) > tries + 6)
        assert rig.readiness.is_ready, "it is tried again beside the work"
        rig.indices.refusals.clear()
        await until(lambda: not rig.readiness.warnings)


async def test_indexer_is_ready_once_both_servers_did_what_it_asked(rig: Rig) -> None:
    assert not rig.readiness.is_ready
    async with running(rig.indexer()):
        await until(lambda: rig.readiness.is_ready)


async def test_indexer_waits_for_redis_and_says_so_and_starts_by_itself(rig: Rig) -> None:
    rig.stream.fail("group", *[REDIS_AWAY] * 20)
    rig.stream.add(hit("a"))
    async with running(rig.indexer()):
        await until(lambda: rig.readiness.problems.get("redis") == "Redis does not answer")
        await until(lambda: rig.counts == {"a": 1})
        await until(lambda: rig.readiness.is_ready)


async def test_bug_in_creating_the_group_is_counted_and_hits_are_indexed(rig: Rig) -> None:
    rig.stream.fail("group", KeyError("bug"))
    rig.stream.add(hit("a"))
    async with running(rig.indexer()):
        await until(lambda: rig.counts == {"a": 1})
    assert rig.metric("hitcounter_failures_total", where="indexer") == 1


async def test_indexer_waits_for_elasticsearch_and_says_so_and_starts_by_itself(rig: Rig) -> None:
    rig.indices.failures = [SINK_AWAY] * 3
    async with running(rig.indexer()):
        await until(lambda: rig.readiness.problems == {"elasticsearch": "Elasticsearch does not answer"})
        rig.stream.add(hit("a"))
        await until(lambda: rig.counts == {"a": 1})
        await until(lambda: rig.readiness.is_ready)


async def test_refusal_outside_of_the_workers_does_not_hide_what_they_wait_for(rig: Rig) -> None:
    rig.sink.rule = lambda _id: REFUSED
    rig.stream.add(hit("a"))
    indexer = rig.indexer()
    async with running(indexer):
        await until(lambda: "refuses documents" in rig.readiness.problems.get("elasticsearch", ""))
        indexer.conditions.note_background_failure("as-of", IndexUnavailable("not allowed", status=403))
        assert "refuses documents" in rig.readiness.problems["elasticsearch"]


async def test_indexer_that_still_waits_for_its_servers_can_be_stopped(rig: Rig) -> None:
    rig.stream.fail("group", *[REDIS_AWAY] * 100_000)
    async with running(rig.indexer()):
        await until(lambda: len(rig.calls("group")) > 2)
    assert rig.calls("read") == []


# ── booking ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_backpressure_is_booked_while_nothing_can_be_settled(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hitcounter_indexer.indexer._BOOK_WORK_SECONDS", 0.01)
    rig.sink.rule = lambda _id: BUSY
    rig.stream.add(hit("a"))
    async with running(rig.indexer()):
        await until(lambda: sum(work.pushed_back for work in rig.stream.booked) > 10)
        assert rig.stream.settlements == {}
        rig.sink.rule = lambda _id: None


async def test_all_work_is_booked_once_when_the_indexer_has_stopped(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hitcounter_indexer.indexer._BOOK_WORK_SECONDS", 0.005)
    async with running(rig.indexer()):
        for number in range(50):
            rig.stream.add(hit(str(number)))
            await until(lambda: len(rig.stream.settlements) == number + 1)  # noqa: B023 - called before the next turn
    assert sum(work.hits for work in rig.stream.booked) == 50
    assert sum(work.busy_ms for work in rig.stream.booked) == int(rig.metric("hitcounter_busy_seconds_total") * 1000)
    assert IndexerWork() not in rig.stream.booked


async def test_work_of_the_last_second_is_booked_when_the_indexer_stops(rig: Rig) -> None:
    rig.stream.add(hit("a"))
    async with running(rig.indexer()):
        await until(lambda: rig.stream.settlements)
    assert [work.hits for work in rig.stream.booked] == [1]


async def test_work_is_lost_rather_than_booked_twice_when_the_answer_to_its_booking_is_lost(rig: Rig) -> None:
    indexer = rig.indexer()
    rig.stream.add(hit("a"))
    await indexer.run_until_empty()
    rig.stream.fail("book", REDIS_AWAY, ZeroDivisionError())
    await indexer.book_work_once()
    rig.stream.add(hit("b"))
    await indexer.run_until_empty()
    await indexer.book_work_once()
    rig.stream.add(hit("c"), hit("d"))
    await indexer.run_until_empty()
    await indexer.book_work_once()
    assert [work.hits for work in rig.stream.booked] == [2]
    assert rig.metric("hitcounter_failures_total", where="indexer") == 1


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_nothing_is_read_while_every_worker_tries_again(rig: Rig) -> None:
    rig.sink.rule = lambda _id: BUSY
    for number in range(2):
        rig.stream.add(hit(str(number)))
    async with running(rig.indexer(bulk_max_documents=1, bulks_in_flight=2)):
        await until(lambda: len(rig.writes) > 10)
        reads = len(rig.calls("read"))
        rig.stream.add(hit("more"))
        written = len(rig.writes)
        await until(lambda: len(rig.writes) > written + 20)
        assert len(rig.calls("read")) == reads
        rig.sink.rule = lambda _id: None
        await until(lambda: len(rig.counts) == 3)


async def test_one_worker_goes_on_while_another_tries_again(rig: Rig) -> None:
    rig.sink.rule = lambda id_: BUSY if id_ == "slow" else None
    rig.stream.add(hit("slow"))
    async with running(rig.indexer(bulk_max_documents=1, bulks_in_flight=2)):
        await until(lambda: rig.writes)
        for number in range(5):
            rig.stream.add(hit(str(number)))
        await until(lambda: len(rig.counts) == 5)


async def test_no_more_bulks_are_in_flight_than_asked_for(rig: Rig) -> None:
    rig.sink.gate.clear()
    async with running(rig.indexer(bulk_max_documents=1, bulks_in_flight=3)):
        for number in range(3):
            rig.stream.add(hit(str(number)))
            await until(lambda: not rig.stream.queued)
        await until(lambda: rig.sink.under_way == 2)
        rig.stream.add(hit("waiting"))
        await asyncio.sleep(0.03)  # several times as long as a read waits
        assert [entry.entry_id for entry in rig.stream.queued] == ["4-0"]
        assert rig.sink.under_way == 2  # the third is prepared, and waits for its turn
        rig.sink.gate.set()
        await until(lambda: len(rig.counts) == 4)


async def test_a_single_worker_prepares_and_writes_alternately(rig: Rig) -> None:
    for number in range(3):
        rig.stream.add(hit(str(number)))
    async with running(rig.indexer(bulk_max_documents=1, bulks_in_flight=1)):
        await until(lambda: len(rig.counts) == 3)


async def test_workers_read_one_after_the_other_so_that_entries_are_not_scattered_over_small_bulks(rig: Rig) -> None:
    async with running(rig.indexer(bulks_in_flight=3)):
        await until(lambda: len(rig.calls("read")) > 6)
    assert rig.stream.most_readers == 1


async def test_small_bulk_waits_a_little_for_more_entries(rig: Rig) -> None:
    indexer = rig.indexer(bulk_max_age_ms=200)
    rig.stream.add(hit("a"))
    turning = asyncio.create_task(indexer.run_once())
    await until(lambda: rig.stream.pending)
    rig.stream.add(hit("b"))
    assert await turning == 2
    assert rig.writes == [["a", "b"]]


async def test_full_bulk_waits_for_nothing(rig: Rig) -> None:
    rig.stream.add(hit("a"), hit("b"))
    async with asyncio.timeout(5):
        assert await rig.indexer(bulk_max_documents=2, bulk_max_age_ms=10_000).run_once() == 1


async def test_entries_beyond_a_bulk_are_left_to_the_next_cycle(rig: Rig) -> None:
    for number in range(10):
        rig.stream.add(*[hit(f"{number}-{position}") for position in range(100)])
    indexer = rig.indexer(bulk_max_documents=100)
    assert await indexer.run_once() == 10  # nothing is known yet of their size
    for number in range(10, 20):
        rig.stream.add(*[hit(f"{number}-{position}") for position in range(100)])
    assert await indexer.run_until_empty() == 10


async def test_redis_away_while_reading_is_reported_and_passes(rig: Rig) -> None:
    async with running(rig.indexer()):
        await until(lambda: rig.readiness.is_ready)
        rig.stream.fail("read", *[REDIS_AWAY] * 30)
        await until(lambda: "redis" in rig.readiness.problems)
        rig.stream.add(hit("a"))
        await until(lambda: rig.counts == {"a": 1})
        await until(lambda: rig.readiness.is_ready)


async def test_bug_in_a_cycle_is_counted_and_the_next_cycle_goes_on(rig: Rig) -> None:
    rig.stream.fail("read", ZeroDivisionError("a bug"))
    rig.stream.add(hit("a"))
    async with running(rig.indexer()):
        await until(lambda: rig.counts == {"a": 1})
    assert rig.metric("hitcounter_failures_total", where="indexer") == 1


# ── others' entries ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_entries_of_silent_consumers_are_taken_over_first(rig: Rig) -> None:
    left_behind = rig.stream.add(hit("old"))
    rig.stream.queued.clear()
    rig.stream.silent.append(replace(left_behind, deliveries=2))
    rig.stream.add(hit("new"))
    await rig.indexer().run_until_empty()
    assert rig.writes == [["old", "new"]]
    assert rig.metric("hitcounter_entries_total", origin="reclaimed") == 1


async def test_entry_that_this_indexer_has_in_progress_is_not_reclaimed_twice(rig: Rig) -> None:
    entry = rig.stream.add(hit("a"))
    indexer = rig.indexer(reclaim_after_seconds=0.5)
    rig.sink.gate.clear()
    first = asyncio.create_task(indexer.run_once())
    await until(lambda: rig.sink.under_way == 1)
    indexer._next_reclaim = 0.0
    rig.stream.silent.append(replace(entry, deliveries=2))  # its renewal came too late
    assert await indexer.run_once() == 0
    rig.sink.gate.set()
    assert await first == 1
    assert rig.writes == [["a"]]


async def test_entry_that_is_left_to_a_newer_indexer_is_not_reclaimed_before_a_whole_reclaim_period(
    rig: Rig,
) -> None:
    entry = rig.stream.add(hit("a"))
    message = HitBatchMessage.FromString(entry.payload)
    message.min_reader = READER_VERSION + 1
    rig.stream.queued[0] = replace(entry, payload=message.SerializeToString())
    indexer = rig.indexer(reclaim_after_seconds=600)
    assert await indexer.run_once() == 1
    indexer._next_reclaim = 0.0
    assert await indexer.run_once() == 1, "left behind, as it seems"
    assert rig.stream.handed_over == [entry.entry_id] * 2
    assert await indexer.run_once() == 0
    indexer._next_reclaim -= 600
    assert await indexer.run_once() == 1


async def test_claims_are_renewed_while_a_cycle_lasts(rig: Rig) -> None:
    rig.sink.gate.clear()
    rig.stream.add(hit("a"))
    rig.stream.fail("renew", REDIS_AWAY)
    async with running(rig.indexer(reclaim_after_seconds=0.5)):
        await until(lambda: len(rig.stream.renewed) >= 2)
        assert rig.metric("hitcounter_entries_in_flight") == 1
        rig.sink.gate.set()
        await until(lambda: rig.counts)
        await until(lambda: rig.metric("hitcounter_entries_in_flight") == 0)
    assert rig.stream.renewed[0] == ["1-0"]


async def test_claims_are_not_renewed_while_elasticsearch_does_not_answer_and_are_again_when_it_does(rig: Rig) -> None:
    rig.sink.failures = [SINK_AWAY] * 10_000
    rig.stream.add(hit("a"))
    indexer = rig.indexer(reclaim_after_seconds=0.5)
    async with running(indexer):
        await until(lambda: indexer._writer.is_cut_off(0.5 / 3))
        renewed = len(rig.stream.renewed)
        await asyncio.sleep(0.5)
        assert len(rig.stream.renewed) == renewed
        rig.sink.failures.clear()
        rig.stream.add(hit("b"))  # the first one waits until it is reclaimed
        await until(lambda: rig.counts)
        assert not indexer._writer.is_cut_off(0.0)


async def test_indexer_is_ready_again_though_others_settled_what_was_refused_to_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by the chaos run: without new hits nothing was written any more, and it stayed unready for ever."""
    monkeypatch.setattr("hitcounter_indexer.indexer._MAINTAIN_INDICES_SECONDS", 0.05)
    rig.sink.rule = lambda _id: REFUSED
    rig.stream.add(hit("a"))
    async with running(rig.indexer(reclaim_after_seconds=0.5)):
        await until(lambda: not rig.readiness.is_ready and bool(rig.writes))
        await until(lambda: rig.readiness.is_ready)
        assert list(rig.stream.pending) == ["1-0"]


# ── stopping ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_idle_indexer_that_is_stopped_leaves_the_group(rig: Rig) -> None:
    async with running(rig.indexer()):
        await until(lambda: rig.calls("read"))
    assert rig.stream.has_left


async def test_bulk_under_way_is_finished_and_settled_before_the_indexer_ends(rig: Rig) -> None:
    rig.sink.gate.clear()
    rig.stream.add(hit("a"))
    indexer = rig.indexer(bulk_max_documents=1, bulks_in_flight=1)
    async with running(indexer) as task:
        await until(lambda: rig.sink.under_way == 1)
        indexer.stop()
        rig.stream.add(hit("b"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(task), 0.05)
        rig.sink.gate.set()
    assert rig.counts == {"a": 1}
    assert [entry.entry_id for entry in rig.stream.queued] == ["2-0"]
    assert rig.stream.has_left


async def test_cycle_that_is_stopped_while_it_tries_again_leaves_its_entries_to_others_at_once(rig: Rig) -> None:
    rig.sink.rule = lambda id_: BUSY if id_ == "b" else None
    rig.stream.add(hit("a"))
    rig.stream.add(hit("b"))
    async with running(rig.indexer()):
        await until(lambda: len(rig.writes) > 3)
    assert list(rig.stream.settlements) == ["1-0"]
    assert rig.stream.handed_over == ["2-0"]


async def test_pause_between_two_tries_ends_when_the_indexer_is_to_stop(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hitcounter_indexer.entry_writer.backoff_seconds", lambda _attempt: 3600.0)
    rig.sink.rule = lambda _id: BUSY
    rig.stream.add(hit("a"))
    async with running(rig.indexer()):
        await until(lambda: rig.writes)
    assert rig.stream.handed_over == ["1-0"]


async def test_entries_of_a_bulk_that_is_not_done_in_time_are_left_to_others(rig: Rig) -> None:
    rig.sink.gate.clear()
    rig.stream.add(hit("a"))
    indexer = rig.indexer()
    async with running(indexer):
        await until(lambda: rig.sink.under_way)
        indexer.stop()
        await indexer.abandon()
        assert rig.stream.handed_over == ["1-0"]
        rig.sink.gate.set()


async def test_redis_away_while_leaving_is_no_failure(rig: Rig) -> None:
    rig.stream.fail("leave", REDIS_AWAY)
    async with running(rig.indexer()):
        await until(lambda: rig.calls("read"))
    assert rig.stream.has_left is None


# ── liveness ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_waiting_on_purpose_counts_as_being_alive(rig: Rig) -> None:
    rig.sink.rule = lambda _id: BUSY
    rig.stream.add(hit("a"))
    indexer = rig.indexer()
    async with running(indexer):
        await until(lambda: rig.writes)
        seen = indexer.lifecycle.last_heartbeat
        await until(lambda: indexer.lifecycle.last_heartbeat > seen)


async def test_work_that_hangs_does_not_count_as_being_alive(rig: Rig) -> None:
    rig.sink.gate.clear()
    rig.stream.add(hit("a"))
    indexer = rig.indexer(bulks_in_flight=1)
    async with running(indexer):
        await until(lambda: rig.sink.under_way)
        seen = indexer.lifecycle.last_heartbeat
        await asyncio.sleep(0.05)
        assert indexer.lifecycle.last_heartbeat == seen
        rig.sink.gate.set()


async def test_run_until_empty_takes_all_that_waits(rig: Rig) -> None:
    entries: list[Entry] = [rig.stream.add(hit(str(number))) for number in range(250)]
    assert await rig.indexer(bulk_max_documents=10).run_until_empty() == len(entries)
    assert len(rig.stream.settlements) == len(entries)
