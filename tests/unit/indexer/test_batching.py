"""Every document finds its end exactly once, every entry is settled exactly when all of its documents have."""

from __future__ import annotations

import itertools
from collections import Counter

from hitcounter.entries import Entry
from hitcounter_indexer.batching import BLIND_READ_MAX_ENTRIES, READ_MAX_ENTRIES, OpenAction, Work, next_read_count
from hitcounter_indexer.documents import Action
from hitcounter_indexer.outcomes import INDEXED, ItemOutcome, ItemResult
from hypothesis import given
from hypothesis import strategies as st

DUPLICATE = ItemResult(ItemOutcome.DUPLICATE)
RETRY = ItemResult(ItemOutcome.RETRY, "busy")
HOLD = ItemResult(ItemOutcome.HOLD, "closed")
REJECT = ItemResult(ItemOutcome.REJECT, "parsing", "bad field")

FINAL = {ItemOutcome.INDEXED, ItemOutcome.DUPLICATE, ItemOutcome.REJECT}

results = st.sampled_from([INDEXED, INDEXED, DUPLICATE, RETRY, HOLD, REJECT, ItemResult(ItemOutcome.REJECT, "id", "x")])
# For each entry, the hits of each of its documents.
shapes = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=6), min_size=1, max_size=8)


def build_action(position: int, hits: int = 1, *, size: int = 10, is_keyed: bool = False) -> Action:
    return Action(position, hits, "hits-2026.11.24", is_keyed, b"x" * size)


def build_work(shape: list[list[int]]) -> Work:
    return Work(
        [
            (
                Entry(f"{number}-0", b"payload", sum(documents)),
                [build_action(position, hits) for position, hits in enumerate(documents)],
            )
            for number, documents in enumerate(shape, 1)
        ]
    )


def write_all(work: Work, result: ItemResult) -> None:
    for chunk in work.take_chunks(100, 10_000):
        work.note(chunk, [result] * len(chunk))


# ── ends ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(shapes, st.data())
def test_every_hit_ends_exactly_once_and_entries_settle_exactly_when_all_of_theirs_have(
    shape: list[list[int]], data: st.DataObject
) -> None:
    work = build_work(shape)
    ended: Counter[str] = Counter()
    settled: dict[str, int] = {}
    for attempt in range(20):
        for chunk in work.take_chunks(data.draw(st.integers(1, 5)), data.draw(st.integers(1, 60))):
            answers = [INDEXED if attempt == 19 else data.draw(results) for _ in chunk]
            work.note(chunk, answers)
            for item, answer in zip(chunk, answers, strict=True):
                if answer.outcome in FINAL:
                    ended[item.progress.entry.entry_id] += item.action.hits
        for settlement in work.take_finished():
            assert settlement.entry_id not in settled
            dead = sum(letter.hits for letter in settlement.dead_letters)
            settled[settlement.entry_id] = settlement.indexed + settlement.duplicate + dead
        totals = {f"{number}-0": sum(documents) for number, documents in enumerate(shape, 1)}
        assert settled == {entry: total for entry, total in totals.items() if ended[entry] == total}
    assert work.open == []
    assert ended == totals


def test_entry_whose_documents_are_done_is_settled_while_another_is_tried_again() -> None:
    work = build_work([[1], [1, 1]])
    for chunk in work.take_chunks(100, 10_000):
        work.note(chunk, [INDEXED, INDEXED, RETRY])
    assert [settlement.entry_id for settlement in work.take_finished()] == ["1-0"]
    assert [item.action.position for item in work.open] == [1]
    write_all(work, INDEXED)
    assert [settlement.entry_id for settlement in work.take_finished()] == ["2-0"]


def test_what_has_ended_is_not_handed_out_again() -> None:
    work = build_work([[1, 1, 1]])
    (chunk,) = work.take_chunks(100, 10_000)
    work.note(chunk, [INDEXED, HOLD, DUPLICATE])
    ((again,),) = work.take_chunks(100, 10_000)
    assert again.action.position == 1


def test_settlement_counts_hits_and_not_documents() -> None:
    work = build_work([[5, 3, 2]])
    (chunk,) = work.take_chunks(100, 10_000)
    work.note(chunk, [INDEXED, DUPLICATE, REJECT])
    (settlement,) = work.take_finished()
    assert (settlement.indexed, settlement.duplicate) == (5, 3)
    (letter,) = settlement.dead_letters
    assert (letter.reason, letter.detail, letter.hits, letter.positions, letter.payload) == (
        "parsing",
        "bad field",
        2,
        [2],
        b"payload",
    )


def test_rejected_documents_of_one_reason_share_a_dead_letter_and_others_have_their_own() -> None:
    work = build_work([[1, 1, 1]])
    (chunk,) = work.take_chunks(100, 10_000)
    work.note(chunk, [REJECT, ItemResult(ItemOutcome.REJECT, "too_long", "another field"), REJECT])
    (settlement,) = work.take_finished()
    assert {(letter.reason, letter.detail): letter.positions for letter in settlement.dead_letters} == {
        ("parsing", "bad field"): [0, 2],
        ("too_long", "another field"): [1],
    }


def test_largest_entry_whose_documents_are_all_rejected_makes_one_dead_letter_with_one_payload() -> None:
    """Elasticsearch names the document in each detail, so all of them differ."""
    work = build_work([[1] * 10_000])
    (chunk,) = work.take_chunks(10_000, 1_000_000)
    work.note(chunk, [ItemResult(ItemOutcome.REJECT, "parsing", f"document {n}: {'x' * 5000}") for n in range(10_000)])
    (settlement,) = work.take_finished()
    (letter,) = settlement.dead_letters
    assert (letter.hits, len(letter.positions or ())) == (10_000, 10_000)
    assert letter.detail.startswith("document 0")
    assert len(letter.detail) <= 1000


def test_finished_entry_is_told_only_once() -> None:
    work = build_work([[1]])
    write_all(work, INDEXED)
    assert len(work.take_finished()) == 1
    assert work.take_finished() == []


# ── chunks ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.lists(st.integers(1, 200), max_size=40), st.integers(1, 10), st.integers(1, 500))
def test_chunks_respect_both_limits_keep_the_order_and_leave_nothing_out(
    sizes: list[int], max_documents: int, max_bytes: int
) -> None:
    actions = [build_action(position, size=size) for position, size in enumerate(sizes)]
    work = Work([(Entry("1-0", b"", len(sizes)), actions)])
    chunks = list(work.take_chunks(max_documents, max_bytes))
    assert [item.action for chunk in chunks for item in chunk] == actions
    for chunk in chunks:
        assert 1 <= len(chunk) <= max_documents
        assert len(chunk) == 1 or sum(len(item.action.lines) for item in chunk) <= max_bytes


@given(st.lists(st.integers(1, 200), min_size=2, max_size=40), st.integers(1, 10), st.integers(1, 500))
def test_chunks_are_as_full_as_the_limits_allow(sizes: list[int], max_documents: int, max_bytes: int) -> None:
    actions = [build_action(position, size=size) for position, size in enumerate(sizes)]
    chunks = list(Work([(Entry("1-0", b"", len(sizes)), actions)]).take_chunks(max_documents, max_bytes))
    for chunk, following in itertools.pairwise(chunks):
        size = sum(len(item.action.lines) for item in chunk)
        assert len(chunk) == max_documents or size + len(following[0].action.lines) > max_bytes


def test_single_document_over_the_limit_of_bytes_goes_by_itself() -> None:
    actions = [build_action(0), build_action(1, size=1000), build_action(2)]
    chunks = Work([(Entry("1-0", b"", 3), actions)]).take_chunks(100, 50)
    assert [[item.action.position for item in chunk] for chunk in chunks] == [[0], [1], [2]]


# ── redelivery ──────────────────────────────────────────────────────────────────────────────────────────────────────


def is_redelivered(*, deliveries: int, is_keyed: bool) -> bool:
    (item,) = Work([(Entry("1-0", b"", 1, deliveries=deliveries), [build_action(0, is_keyed=is_keyed)])]).open
    assert isinstance(item, OpenAction)
    return item.is_redelivered


def test_document_found_there_was_written_by_an_earlier_delivery_unless_a_client_repeated_its_key() -> None:
    assert is_redelivered(deliveries=2, is_keyed=False)
    assert is_redelivered(deliveries=2, is_keyed=True)
    assert is_redelivered(deliveries=1, is_keyed=False)  # the group was lost, and counts anew
    assert not is_redelivered(deliveries=1, is_keyed=True)


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_read_asks_for_what_is_wanted_estimated_from_the_size_of_the_entries() -> None:
    assert next_read_count(3000, 1000, READ_MAX_ENTRIES) == 3
    assert next_read_count(100, 1000, READ_MAX_ENTRIES) == 1
    assert next_read_count(5000, 1, READ_MAX_ENTRIES) == READ_MAX_ENTRIES
    assert next_read_count(5000, 0, BLIND_READ_MAX_ENTRIES) == BLIND_READ_MAX_ENTRIES


@given(st.integers(1, 50_000), st.floats(0, 10_000), st.integers(1, READ_MAX_ENTRIES))
def test_every_read_asks_for_something_and_never_for_too_much(wanted: int, hits_per_entry: float, most: int) -> None:
    assert 1 <= next_read_count(wanted, hits_per_entry, most) <= most
