"""One turn of the indexer: what becomes of each document and each entry, whatever fails in between."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hitcounter.codec import HitBatch
from hitcounter.entries import Entry, Settlement
from hitcounter.errors import IndexUnavailable, StreamUnavailable
from hitcounter.hits import DAY_MS, Hit
from hitcounter.v1.hit_pb2 import HitBatch as HitBatchMessage
from hitcounter_indexer import entry_writer
from hitcounter_indexer.documents import Action, Document, build_documents
from hitcounter_indexer.indexer import Indexer
from hitcounter_indexer.outcomes import ItemResult

from tests.unit.indexer.fakes import (
    BUSY,
    DUPLICATE,
    INVALID,
    MISSING,
    NOW_MS,
    RED,
    REDIS_AWAY,
    REFUSED,
    REJECTED,
    SHARD_FULL,
    SINK_AWAY,
    TODAY,
    YESTERDAY,
    Rig,
    answers,
    running,
    until,
)

TOO_OFTEN = 6
"""Deliveries beyond those after which a document that is refused may become a dead letter."""


def hit(id_: str, *, key: str = "") -> Hit:
    return Hit(id_, NOW_MS, key=key)


# ── the way of a hit ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_hits_of_an_entry_become_documents_and_the_entry_is_settled_with_their_number(rig: Rig) -> None:
    entry = rig.stream.add(hit("a"), hit("b"), hit("a"))
    assert await rig.indexer().run_until_empty() == 1
    assert rig.counts == {"a": 2, "b": 1}
    assert rig.stream.settlements == {entry.entry_id: Settlement(entry.entry_id, indexed=3, dead_letters=[])}
    assert rig.stream.pending == {}


async def test_entries_that_wait_together_share_a_bulk_and_a_settling(rig: Rig) -> None:
    rig.stream.add(hit("a"))
    rig.stream.add(hit("b"))
    await rig.indexer().run_until_empty()
    assert rig.writes == [["a", "b"]]
    assert rig.calls("settle") == [("settle", ["1-0", "2-0"])]


async def test_bulks_are_no_larger_than_asked_for(rig: Rig) -> None:
    rig.stream.add(*[hit(str(number)) for number in range(7)])
    await rig.indexer(bulk_max_documents=3).run_until_empty()
    assert [len(ids) for ids in rig.writes if isinstance(ids, list)] == [3, 3, 1]
    assert len(rig.stream.settlements) == 1


async def test_cycle_that_finds_nothing_writes_nothing(rig: Rig) -> None:
    assert await rig.indexer().run_until_empty() == 0
    assert rig.calls("write", "settle", "flush") == []


async def test_hits_settled_are_counted_by_how_they_ended(rig: Rig) -> None:
    rig.sink.rule = answers(REJECTED, ids=["bad"])
    rig.stream.add(hit("a"), hit("a"), hit("bad"))
    rig.stream.add(hit("k", key="k"), hit("k", key="k"))
    await rig.indexer().run_until_empty()
    assert {
        end: rig.metric("hitcounter_settled_hits_total", result=end) for end in ("indexed", "duplicate", "dead")
    } == {
        "indexed": 3,
        "duplicate": 1,
        "dead": 1,
    }


# ── trying again ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_only_what_was_pushed_back_is_written_again(rig: Rig) -> None:
    rig.sink.rule = answers(BUSY, BUSY, ids=["b"])
    rig.stream.add(hit("a"), hit("b"), hit("c"))
    await rig.indexer().run_until_empty()
    assert rig.writes == [["a", "b", "c"], ["b"], ["b"]]
    assert rig.stream.settlements["1-0"].indexed == 3


async def test_entry_that_is_done_is_settled_before_another_is_tried_again(rig: Rig) -> None:
    rig.sink.rule = answers(BUSY, ids=["b"])
    rig.stream.add(hit("a"))
    rig.stream.add(hit("b"))
    await rig.indexer().run_until_empty()
    assert rig.calls("write", "settle") == [
        ("write", ["a", "b"]),
        ("settle", ["1-0"]),
        ("write", ["b"]),
        ("settle", ["2-0"]),
    ]


async def test_whole_bulk_is_written_again_when_no_answer_came(rig: Rig) -> None:
    rig.sink.failures = [SINK_AWAY, SINK_AWAY]
    rig.stream.add(hit("a"), hit("b"))
    await rig.indexer().run_until_empty()
    assert rig.writes == [["a", "b"]] * 3
    assert rig.stream.settlements["1-0"].indexed == 2


@pytest.mark.parametrize("status", [None, 429, 500, 502, 503, 401, 403])
async def test_failure_of_the_whole_request_never_makes_a_dead_letter(rig: Rig, status: int | None) -> None:
    rig.sink.failures = [IndexUnavailable("no", status=status)] * 20
    rig.stream.add(hit("a"), deliveries=TOO_OFTEN - 1)
    await rig.indexer().run_until_empty()
    assert rig.stream.settlements["1-0"] == Settlement("1-0", indexed=1, dead_letters=[])


async def test_work_has_all_settled_hits_and_the_documents_that_were_pushed_back_or_not_answered(rig: Rig) -> None:
    rig.sink.failures = [SINK_AWAY, IndexUnavailable("overloaded", status=429)]
    rig.sink.rule = answers(BUSY, BUSY, ids=["b"])
    rig.stream.add(hit("a"), hit("b"), hit("c"))
    indexer = rig.indexer()
    await indexer.run_until_empty()
    await indexer.book_work_once()
    (work,) = rig.stream.booked
    assert (work.hits, work.pushed_back) == (3, 3 + 3 + 2)


async def test_indexer_that_is_cut_off_does_not_report_backpressure_again_and_again(rig: Rig) -> None:
    """Others may write as before, and must not be kept from scaling up."""
    rig.sink.failures = [SINK_AWAY] * 4
    rig.stream.add(hit("a"), hit("b"))
    indexer = rig.indexer()
    await indexer.run_until_empty()
    rig.sink.failures = [SINK_AWAY]
    rig.stream.add(hit("c"))
    await indexer.run_until_empty()
    await indexer.book_work_once()
    assert [work.pushed_back for work in rig.stream.booked] == [2 + 1]


async def test_work_has_hits_that_are_duplicates_or_dead(rig: Rig) -> None:
    rig.sink.rule = lambda id_: {"a": DUPLICATE, "b": REJECTED}.get(id_)
    rig.stream.add(hit("a"), hit("b"), hit("c"))
    indexer = rig.indexer()
    await indexer.run_until_empty()
    await indexer.book_work_once()
    assert [(work.hits, work.pushed_back) for work in rig.stream.booked] == [(3, 0)]


@pytest.mark.parametrize("refusal", [REFUSED, RED, MISSING])
async def test_documents_that_an_index_refuses_are_no_backpressure(rig: Rig, refusal: ItemResult) -> None:
    rig.sink.rule = answers(refusal, ids=["b"])
    rig.stream.add(hit("a"), hit("b"))
    indexer = rig.indexer()
    await indexer.run_once()
    await indexer.book_work_once()
    assert sum(work.pushed_back for work in rig.stream.booked) == 0
    assert rig.metric("hitcounter_bulk_items_total", outcome=refusal.outcome.value) >= 1


async def test_push_back_is_reported_in_readiness_and_metrics_until_it_is_over(rig: Rig) -> None:
    rig.sink.rule = lambda _id: BUSY
    rig.stream.add(hit("a"))
    turning = asyncio.create_task(rig.indexer().run_until_empty())
    await until(lambda: "queue is full" in rig.readiness.problems.get("elasticsearch", ""))
    rig.sink.rule = lambda _id: None
    await turning
    assert rig.readiness.is_ready
    assert rig.metric("hitcounter_retried_documents_total", reason="es_rejected_execution_exception") >= 1
    assert rig.metric("hitcounter_bulk_items_total", outcome="retry") >= 1
    assert rig.metric("hitcounter_failures_total", where="elasticsearch") >= 1


async def test_bulk_that_is_too_large_is_written_in_halves_until_it_fits(rig: Rig) -> None:
    rig.sink.max_documents = 2
    rig.stream.add(*[hit(id_) for id_ in "abcdefg"])
    await rig.indexer().run_until_empty()
    assert len(rig.sink.documents) == 7
    assert rig.stream.settlements["1-0"].indexed == 7
    assert rig.writes[-1] == ["f", "g"]


async def test_single_document_that_is_too_large_is_left_pending_and_delays_nobody(rig: Rig) -> None:
    rig.sink.max_documents = 0
    rig.stream.add(hit("a"))
    indexer = rig.indexer()
    turning = asyncio.create_task(indexer.run_until_empty())
    await until(lambda: "too_large" in str(rig.readiness.problems))
    indexer.stop()
    await turning
    assert rig.stream.settlements == {}


# ── rejects ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_rejected_documents_become_a_dead_letter_with_their_positions_beside_indexed_neighbours(rig: Rig) -> None:
    rig.sink.rule = answers(REJECTED, ids=["bad", "worse"])
    entry = rig.stream.add(hit("a"), hit("bad"), hit("bad"), hit("b"), hit("worse"))
    await rig.indexer().run_until_empty()
    (settlement,) = rig.stream.settlements.values()
    (letter,) = settlement.dead_letters
    assert (letter.reason, letter.detail) == ("mapper_parsing_exception", "bad field")
    assert (letter.positions, letter.hits, letter.payload) == ([1, 4], 3, entry.payload)
    assert (settlement.indexed, rig.counts) == (2, {"a": 1, "b": 1})


async def test_dead_letter_sent_again_writes_only_the_documents_it_stands_for(rig: Rig) -> None:
    entry = rig.stream.add(hit("a"), hit("bad"), hit("b"), hit("worse"))
    rig.stream.queued.clear()
    rig.stream.add_entry(entry, entry_id="9-0", positions=frozenset({1, 3}), hits=2)
    await rig.indexer().run_until_empty()
    assert rig.counts == {"bad": 1, "worse": 1}
    assert rig.stream.settlements["9-0"].indexed == 2


# ── refusals ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_refused_documents_are_kept_and_reported_in_readiness_and_written_once_they_are_taken(rig: Rig) -> None:
    rig.sink.rule = lambda _id: REFUSED
    rig.stream.add(hit("a"))
    turning = asyncio.create_task(rig.indexer().run_until_empty())
    await until(lambda: "index is read-only" in rig.readiness.problems.get("elasticsearch", ""))
    assert not turning.done()
    rig.sink.rule = lambda _id: None
    await turning
    assert rig.readiness.is_ready
    assert rig.stream.settlements["1-0"] == Settlement("1-0", indexed=1, dead_letters=[])


async def test_refused_documents_are_left_pending_at_once_while_their_index_takes_others(rig: Rig) -> None:
    rig.sink.rule = lambda id_: REFUSED if id_ == "refused" else None
    rig.stream.add(hit("a"))
    rig.stream.add(hit("refused"))
    assert await rig.indexer(reclaim_after_seconds=3600).run_until_empty() == 2
    assert list(rig.stream.settlements) == ["1-0"]
    assert list(rig.stream.pending) == ["2-0"]


async def test_refused_documents_are_left_pending_after_a_while_so_that_nothing_waits_behind_them(rig: Rig) -> None:
    rig.sink.rule = lambda id_: REFUSED if id_ == "old" else None
    rig.stream.add(Hit("old", NOW_MS - DAY_MS))  # its index is closed; today's is not
    indexer = rig.indexer(reclaim_after_seconds=0.5)
    assert await indexer.run_until_empty() == 1
    assert len(rig.writes) > 2
    rig.stream.add(hit("new"))
    await indexer.run_until_empty()
    assert rig.counts == {"new": 1}
    assert list(rig.stream.pending) == ["1-0"]


# ── circuit breakers ────────────────────────────────────────────────────────────────────────────────────────────────


def late(id_: str) -> Hit:
    return Hit(id_, NOW_MS - DAY_MS)


async def open_breaker(rig: Rig, indexer: Indexer, refusal: ItemResult) -> None:
    """Have yesterday refuse its documents while today takes its own, until its breaker is open."""
    rig.sink.rule = lambda id_: refusal if id_.startswith("late") else None
    rig.stream.add(hit("a"))
    rig.stream.add(late("late"), hit("beside"))
    await indexer.run_until_empty()
    assert rig.metric("hitcounter_open_circuit_breakers") == 1


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hitcounter_indexer.breaker.OPEN_AFTER_SECONDS", 0.02)
    monkeypatch.setattr("hitcounter_indexer.breaker.PROBE_SECONDS", 0.0)
    monkeypatch.setattr("hitcounter_indexer.indexer._BREAKER_CHECK_SECONDS", 0.05)


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("refusal", [REFUSED, RED])
async def test_day_that_refuses_while_another_takes_is_deferred_and_all_else_is_settled(
    rig: Rig, refusal: ItemResult
) -> None:
    indexer = rig.indexer()
    await open_breaker(rig, indexer, refusal)
    assert rig.counts == {"a": 1, "beside": 1}
    assert list(rig.stream.pending) == ["2-0"]
    assert YESTERDAY in rig.readiness.warnings
    assert rig.readiness.is_ready


@pytest.mark.usefixtures("_impatient")
async def test_nothing_is_sent_to_an_index_whose_breaker_is_open_and_no_cycle_waits_for_it(rig: Rig) -> None:
    indexer = rig.indexer()
    await open_breaker(rig, indexer, REFUSED)
    rig.journal.clear()
    for number in range(5):
        rig.stream.add(late(f"late-{number}"), hit(f"new-{number}"))
        await indexer.run_until_empty()
    assert rig.writes == [[f"new-{number}"] for number in range(5)]
    assert len(rig.stream.pending) == 6
    assert rig.metric("hitcounter_left_entries") == 6


@pytest.mark.usefixtures("_impatient")
async def test_probe_that_is_taken_closes_the_breaker_and_deferred_entries_are_settled(rig: Rig) -> None:
    indexer = rig.indexer()
    await open_breaker(rig, indexer, REFUSED)
    async with running(indexer):
        await until(lambda: len(rig.writes) > 3)  # probes that are refused
        assert list(rig.stream.pending) == ["2-0"]
        rig.sink.rule = lambda _id: None
        await until(lambda: not rig.stream.pending and not rig.stream.silent)
    assert rig.counts == {"a": 1, "beside": 1, "late": 1}
    assert rig.readiness.warnings == {}
    assert rig.metric("hitcounter_left_entries") == 0


@pytest.mark.usefixtures("_impatient")
async def test_probe_writes_no_document_of_a_rejected_entry_and_the_breaker_closes_when_nothing_waits(rig: Rig) -> None:
    indexer = rig.indexer()
    await open_breaker(rig, indexer, REFUSED)
    rig.sink.rule = lambda _id: None
    await rig.stream.settle([Settlement("2-0")])  # as `entries reject` does
    async with running(indexer):
        await until(lambda: rig.metric("hitcounter_open_circuit_breakers") == 0)
        await until(lambda: rig.metric("hitcounter_left_entries") == 0)
    assert rig.counts == {"a": 1, "beside": 1}
    assert rig.readiness.warnings == {}


@pytest.mark.usefixtures("_impatient")
async def test_redis_away_before_a_probe_is_no_end_of_probing(rig: Rig) -> None:
    indexer = rig.indexer()
    await open_breaker(rig, indexer, REFUSED)
    rig.stream.fail("find pending", REDIS_AWAY, REDIS_AWAY)
    rig.sink.rule = lambda _id: None
    async with running(indexer):
        await until(lambda: rig.counts == {"a": 1, "beside": 1, "late": 1})
    assert rig.stream.failures["find pending"] == []


@pytest.mark.usefixtures("_impatient")
async def test_day_that_is_repaired_does_not_wait_for_the_probe_of_another_day(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The probe of a day that does not answer takes as long as the time-out of a bulk: 30 s."""
    indexer = rig.indexer()
    await open_breaker(rig, indexer, REFUSED)
    rig.stream.add(Hit("late-2", NOW_MS - 2 * DAY_MS), hit("beside"))
    await indexer.run_until_empty()
    assert rig.metric("hitcounter_open_circuit_breakers") == 2
    hung, write = asyncio.Event(), rig.sink.write

    async def write_unless_hung(actions: Sequence[Action]) -> list[ItemResult]:
        if any(action.index_name not in (TODAY, YESTERDAY) for action in actions):
            hung.set()
            await asyncio.Event().wait()
        return await write(actions)

    monkeypatch.setattr(rig.sink, "write", write_unless_hung)
    async with running(indexer):
        await hung.wait()
        rig.sink.rule = lambda _id: None
        await until(lambda: "2-0" in rig.stream.settlements)
    assert rig.counts == {"a": 1, "beside": 2, "late": 1}


@pytest.mark.usefixtures("_impatient")
async def test_entries_resumed_while_a_reclaim_finds_nothing_are_reclaimed_at_once(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next reclaim would be due after a quarter of the silence: 7.5 s."""
    indexer = rig.indexer()
    await open_breaker(rig, indexer, REFUSED)
    may_end, reclaim = asyncio.Event(), rig.stream.reclaim

    async def reclaim_slowly(consumer: str, *, min_idle_ms: int, count: int) -> list[Entry]:
        found = await reclaim(consumer, min_idle_ms=min_idle_ms, count=count)
        await may_end.wait()
        return found

    monkeypatch.setattr(rig.stream, "reclaim", reclaim_slowly)
    monkeypatch.setattr(indexer, "_next_reclaim", 0.0)
    rig.sink.rule = lambda _id: None
    async with running(indexer):
        await until(lambda: rig.stream.silent)
        may_end.set()
        await until(lambda: not rig.stream.silent and not rig.stream.pending)


@pytest.mark.usefixtures("_impatient")
async def test_claims_of_deferred_entries_are_renewed_so_that_nobody_reclaims_them_only_to_defer_them_again(
    rig: Rig,
) -> None:
    indexer = rig.indexer(reclaim_after_seconds=0.5)
    await open_breaker(rig, indexer, REFUSED)
    async with running(indexer):
        await until(lambda: ["2-0"] in rig.stream.renewed)
    assert rig.stream.handed_over == ["2-0"], "at its end it leaves them to others"


@pytest.mark.usefixtures("_impatient")
async def test_index_that_does_not_answer_is_found_by_asking_index_by_index(rig: Rig) -> None:
    """A bulk with a document for it gets no answer at all."""
    rig.sink.silent_indices = {YESTERDAY}
    rig.stream.add(late("late"), hit("a"))
    rig.stream.add(hit("b"))
    await rig.indexer().run_until_empty()
    assert rig.counts == {"a": 1, "b": 1}
    assert list(rig.stream.settlements) == ["2-0"]
    assert rig.metric("hitcounter_open_circuit_breakers") == 1


@pytest.mark.usefixtures("_impatient")
async def test_index_that_never_answers_cannot_block_a_worker_that_has_only_its_documents(rig: Rig) -> None:
    """No other index accepts anything meanwhile, so that no circuit breaker can open."""
    rig.sink.silent_indices = {YESTERDAY}
    rig.stream.add(late("late"))
    indexer = rig.indexer(reclaim_after_seconds=0.5)
    assert await indexer.run_once() == 1
    rig.stream.add(hit("a"))
    assert await indexer.run_once() == 1
    assert rig.counts == {"a": 1}
    assert list(rig.stream.pending) == ["1-0"]


@pytest.mark.usefixtures("_impatient")
async def test_index_that_pushes_back_without_end_cannot_block_a_worker_that_has_only_its_documents(rig: Rig) -> None:
    rig.sink.rule = lambda id_: BUSY if id_ == "late" else None
    rig.stream.add(late("late"))
    indexer = rig.indexer(reclaim_after_seconds=0.5)
    assert await indexer.run_once() == 1
    rig.stream.add(hit("a"))
    assert await indexer.run_once() == 1
    assert rig.counts == {"a": 1}


@pytest.mark.usefixtures("_impatient")
async def test_no_breaker_opens_while_every_index_refuses(rig: Rig) -> None:
    rig.sink.rule = lambda _id: RED
    rig.stream.add(late("late"), hit("a"))
    indexer = rig.indexer(reclaim_after_seconds=0.5)
    await indexer.run_until_empty()
    assert rig.metric("hitcounter_open_circuit_breakers") == 0
    assert not rig.readiness.is_ready


@pytest.mark.usefixtures("_impatient")
async def test_push_back_of_one_index_opens_no_breaker(rig: Rig) -> None:
    rig.sink.rule = answers(*[BUSY] * 100, ids=["late"])
    rig.stream.add(late("late"), hit("a"))
    await rig.indexer().run_until_empty()
    assert rig.stream.settlements["1-0"].indexed == 2
    assert len(rig.writes) == 101


async def test_refused_documents_are_no_push_back_for_the_autoscalers(rig: Rig) -> None:
    rig.sink.rule = lambda id_: REFUSED if id_ == "refused" else None
    rig.stream.add(hit("a"))
    rig.stream.add(hit("refused"))
    await rig.indexer().run_until_empty()
    assert rig.metric("hitcounter_bulk_items_total", outcome="hold") == 1
    assert rig.metric("hitcounter_retried_documents_total", reason="cluster_block_exception") == 0


async def test_flush_that_fails_delays_only_the_duplicates_of_its_index(rig: Rig) -> None:
    indexer = rig.indexer()
    entry = rig.stream.add(late("again"))
    await indexer.run_until_empty()
    rig.stream.add_entry(entry, deliveries=2)
    rig.stream.add(hit("new"))
    rig.sink.flush_failures = [SINK_AWAY]
    rig.journal.clear()
    await indexer.run_until_empty()
    assert rig.calls("write", "settle") == [
        ("write", ["again", "new"]),
        ("settle", ["2-0"]),
        ("write", ["again"]),
        ("settle", ["1-0"]),
    ]


# ── entries that came back too often ────────────────────────────────────────────────────────────────────────────────


async def test_entries_that_came_back_often_are_written_together(rig: Rig) -> None:
    for number in range(20):
        rig.stream.add(hit(str(number)), deliveries=TOO_OFTEN)
    await rig.indexer().run_until_empty()
    assert [len(ids) for ids in rig.writes if isinstance(ids, list)] == [20]


async def test_high_delivery_count_alone_rejects_nothing(rig: Rig) -> None:
    rig.stream.add(hit("a"), deliveries=10_000)
    await rig.indexer().run_until_empty()
    assert rig.stream.settlements["1-0"] == Settlement("1-0", indexed=1, dead_letters=[])


async def test_entry_that_came_back_often_is_left_pending_while_its_index_takes_nothing(rig: Rig) -> None:
    rig.sink.rule = lambda _id: INVALID
    rig.stream.add(hit("a"), deliveries=TOO_OFTEN)
    await rig.indexer(reclaim_after_seconds=0.5).run_until_empty()
    assert rig.stream.settlements == {}
    assert len(rig.stream.pending) == 1


async def test_document_refused_again_and_again_beside_another_of_its_index_that_is_taken_is_a_dead_letter(
    rig: Rig,
) -> None:
    rig.sink.rule = lambda id_: INVALID if id_ == "bad" else None
    indexer = rig.indexer()
    entry = rig.stream.add(hit("bad"), hit("good"), deliveries=TOO_OFTEN - 1)
    await indexer.run_until_empty()
    assert rig.stream.settlements == {}, "it did not come back often enough"
    rig.stream.add_entry(entry, deliveries=TOO_OFTEN)
    await indexer.run_until_empty()
    (letter,) = rig.stream.settlements[entry.entry_id].dead_letters
    assert (letter.reason, letter.hits) == ("refused_too_often", 1)
    assert "a field too many" in letter.detail
    assert rig.counts == {"good": 1}


@pytest.mark.parametrize("refusal", [REFUSED, SHARD_FULL, RED, BUSY])
async def test_what_says_nothing_of_the_document_makes_no_dead_letter_though_others_are_taken(
    rig: Rig, refusal: ItemResult
) -> None:
    """Such as a shard that is full: it meets the documents that it holds, and refuses all others."""
    rig.sink.rule = answers(*[refusal] * 3, ids=["new"])
    rig.stream.add(hit("new"), hit("there"), deliveries=TOO_OFTEN)
    await rig.indexer(reclaim_after_seconds=0.5).run_until_empty()
    assert not [letter for settlement in rig.stream.settlements.values() for letter in settlement.dead_letters]


async def test_whole_request_that_fails_makes_no_dead_letter(rig: Rig) -> None:
    indexer = rig.indexer()
    for number in range(3):
        rig.sink.failures = [SINK_AWAY]
        rig.stream.add(hit("a"), deliveries=TOO_OFTEN + number)
        await indexer.run_until_empty()
    assert [settlement.dead_letters for settlement in rig.stream.settlements.values()] == [[]] * 3


# ── an Elasticsearch that is too slow ───────────────────────────────────────────────────────────────────────────────


def sizes_of(rig: Rig) -> list[int]:
    return [len(ids) for ids in rig.writes if isinstance(ids, list)]


async def test_bulks_become_smaller_until_one_is_answered_and_large_again_afterwards(rig: Rig) -> None:
    rig.stream.add(*[hit(f"{number}") for number in range(800)])
    rig.sink.failures = [SINK_AWAY, SINK_AWAY]
    indexer = rig.indexer(bulk_max_documents=800)
    await indexer.run_until_empty()
    assert sizes_of(rig) == [800, 400, 200, 200, 200, 200]
    for entry in range(20):
        rig.stream.add(*[hit(f"{entry}-{number}") for number in range(800)])
        await indexer.run_until_empty()
    assert sizes_of(rig)[6:10] == [240, 240, 240, 80]
    assert sizes_of(rig)[-1] == 800
    assert sum(rig.counts.values()) == 21 * 800


async def test_documents_behind_a_bulk_without_an_answer_are_not_sent_before_it_is_tried_again(rig: Rig) -> None:
    rig.stream.add(*[hit(f"{number}") for number in range(300)])
    rig.sink.failures = [SINK_AWAY]
    await rig.indexer(bulk_max_documents=100).run_until_empty()
    assert sizes_of(rig) == [100] * 4


async def test_an_elasticsearch_that_writes_only_few_documents_in_time_makes_progress(rig: Rig) -> None:
    """Its bulks are written all the same when they are given up, as by a server that is only slow."""
    rig.stream.add(*[hit(f"{number}") for number in range(1000)])
    rig.sink.max_in_time = 130
    await rig.indexer(bulk_max_documents=1000).run_until_empty()
    settlement = rig.stream.settlements["1-0"]
    assert settlement.indexed + settlement.duplicate == 1000
    assert set(rig.counts.values()) == {1}


# ── entries that cannot be handled ──────────────────────────────────────────────────────────────────────────────────


def newer(entry: Entry) -> bytes:
    message = HitBatchMessage.FromString(entry.payload)
    message.min_reader = 2
    return message.SerializeToString()


async def test_undecodable_entry_is_a_dead_letter_whole_and_its_neighbours_are_indexed(rig: Rig) -> None:
    rig.stream.add(hit("a"))
    rig.stream.add(hit("b"), hit("c"), payload=b"not a batch")
    rig.stream.add(hit("d"))
    await rig.indexer().run_until_empty()
    (letter,) = rig.stream.settlements["2-0"].dead_letters
    assert (letter.reason, letter.hits, letter.positions, letter.payload) == ("undecodable", 2, None, b"not a batch")
    assert rig.counts == {"a": 1, "d": 1}


@pytest.mark.parametrize("booked", [0, 1, 3])
async def test_entry_that_holds_other_hits_than_were_booked_is_undecodable(rig: Rig, booked: int) -> None:
    rig.stream.add(hit("a"), hit("b"), hits=booked)
    await rig.indexer().run_until_empty()
    (letter,) = rig.stream.settlements["1-0"].dead_letters
    assert (letter.reason, letter.hits) == ("undecodable", booked)
    assert rig.counts == {}


async def test_entry_of_which_nothing_is_meant_is_undecodable_and_does_not_come_back_for_ever(rig: Rig) -> None:
    rig.stream.add(hit("a"), hits=0, positions=frozenset())
    await rig.indexer().run_until_empty()
    assert rig.stream.pending == {}


async def test_entry_for_a_newer_indexer_is_left_to_it_and_its_neighbours_are_indexed(rig: Rig) -> None:
    rig.stream.add(hit("a"))
    entry = rig.stream.add(hit("b"))
    rig.stream.queued[1] = replace(entry, payload=newer(entry))
    await rig.indexer().run_once()
    assert rig.stream.handed_over == [entry.entry_id]
    assert rig.counts == {"a": 1}
    assert rig.metric("hitcounter_entries_total", origin="left") == 1


@pytest.mark.parametrize("deliveries", [1, TOO_OFTEN, 1000])
async def test_entry_for_a_newer_indexer_is_never_rejected(rig: Rig, deliveries: int) -> None:
    entry = rig.stream.add(hit("b"), deliveries=deliveries)
    rig.stream.queued[0] = replace(entry, payload=newer(entry))
    await rig.indexer().run_until_empty()
    assert [left.entry_id for left in rig.stream.silent] == [entry.entry_id]
    assert rig.stream.settlements == {}


@pytest.fixture
def bug_met_by_unlucky(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let our own code fail on entries with a hit on that id."""

    def build(batch: HitBatch, index_prefix: str) -> list[Document]:
        if "unlucky" in batch.ids:
            raise ZeroDivisionError("a bug")
        return build_documents(batch, index_prefix)

    monkeypatch.setattr(entry_writer, "build_documents", build)


@pytest.mark.usefixtures("bug_met_by_unlucky")
async def test_bug_in_handling_one_entry_does_not_delay_its_neighbours(rig: Rig) -> None:
    rig.stream.add(hit("a"))
    rig.stream.add(hit("unlucky"))
    rig.stream.add(hit("b"))
    await rig.indexer().run_until_empty()
    assert rig.counts == {"a": 1, "b": 1}
    assert list(rig.stream.pending) == ["2-0"]
    assert rig.metric("hitcounter_entries_total", origin="failed") == 1


@pytest.mark.usefixtures("bug_met_by_unlucky")
async def test_entry_that_meets_a_bug_each_time_is_a_dead_letter_in_the_end(rig: Rig) -> None:
    rig.stream.add(hit("unlucky"), deliveries=TOO_OFTEN)
    await rig.indexer().run_until_empty()
    (letter,) = rig.stream.settlements["1-0"].dead_letters
    assert (letter.reason, letter.detail) == ("failed_too_often", "ZeroDivisionError: a bug")


# ── duplicates ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_documents_found_there_are_duplicates_and_flushed_before_their_entry_is_settled(rig: Rig) -> None:
    indexer = rig.indexer()
    entry = rig.stream.add(hit("a"), hit("b"))
    await indexer.run_until_empty()
    rig.journal.clear()
    rig.stream.add_entry(entry, deliveries=2)
    await indexer.run_until_empty()
    assert rig.calls("write", "flush", "settle") == [
        ("write", ["a", "b"]),
        ("flush", [TODAY]),
        ("settle", [entry.entry_id]),
    ]
    assert rig.stream.settlements[entry.entry_id].duplicate == 2
    assert rig.counts == {"a": 1, "b": 1}


async def test_key_that_a_client_sent_twice_is_a_duplicate_that_needs_no_flush(rig: Rig) -> None:
    rig.stream.add(hit("a", key="k"))
    rig.stream.add(hit("a", key="k"))
    await rig.indexer().run_until_empty()
    assert rig.calls("flush") == []
    assert rig.stream.settlements["2-0"].duplicate == 1


async def test_entry_is_not_settled_as_duplicate_while_the_flush_fails(rig: Rig) -> None:
    indexer = rig.indexer()
    entry = rig.stream.add(hit("a"))
    await indexer.run_until_empty()
    rig.journal.clear()
    rig.sink.flush_failures = [SINK_AWAY, SINK_AWAY]
    rig.stream.add_entry(entry, deliveries=2)
    await indexer.run_until_empty()
    names = [name for name, _ in rig.calls("write", "flush", "settle")]
    assert names == ["write", "flush"] * 3 + ["settle"]


async def test_document_written_by_a_bulk_whose_answer_was_lost_is_flushed_before_it_is_settled(rig: Rig) -> None:
    entry = rig.stream.add(hit("a", key="k"))
    written = rig.indexer()
    await written.run_until_empty()  # this bulk's answer is "lost": the entry is delivered as if for the first time
    rig.journal.clear()
    rig.sink.failures = [SINK_AWAY]
    rig.stream.add_entry(entry)
    await written.run_until_empty()
    assert [name for name, _ in rig.calls("write", "flush", "settle")] == ["write", "write", "flush", "settle"]


# ── Redis ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_settling_is_repeated_while_redis_is_away_and_nothing_is_written_again(rig: Rig) -> None:
    rig.stream.fail("settle", REDIS_AWAY, REDIS_AWAY)
    rig.stream.add(hit("a"))
    await rig.indexer().run_until_empty()
    assert rig.writes == [["a"]]
    assert list(rig.stream.settlements) == ["1-0"]
    assert rig.readiness.is_ready
    assert rig.metric("hitcounter_failures_total", where="redis") == 2


async def test_redis_away_while_stopping_leaves_the_entry_pending(rig: Rig) -> None:
    rig.stream.fail("settle", *[REDIS_AWAY] * 10_000)
    rig.stream.add(hit("a"))
    indexer = rig.indexer()
    turning = asyncio.create_task(indexer.run_until_empty())
    await until(lambda: len(rig.calls("settle")) > 2)
    indexer.stop()
    with pytest.raises(StreamUnavailable):
        await turning
    assert list(rig.stream.pending) == ["1-0"]


async def test_entry_settled_by_another_indexer_meanwhile_is_no_fault_and_counted_by_that_one(rig: Rig) -> None:
    entry = rig.stream.add(hit("a"))
    rig.sink.gate.clear()
    turning = asyncio.create_task(rig.indexer().run_until_empty())
    await until(lambda: rig.sink.under_way)
    await rig.stream.settle([Settlement(entry.entry_id, indexed=1)])
    rig.sink.gate.set()
    assert await turning == 1
    assert rig.metric("hitcounter_settled_hits_total", result="indexed") == 0
