"""The client's record, and what is a difference."""

from __future__ import annotations

import pytest

from tests.chaos.record import IdRecord, Record, TrackedHit, find_difference


@pytest.fixture
def record() -> Record:
    return Record()


def _hit(record: Record, *, is_keyed: bool) -> TrackedHit:
    hit = TrackedHit("x", "key" if is_keyed else None)
    record.note_sent(hit)
    return hit


def test_acknowledged_hit_must_be_counted(record: Record) -> None:
    record.note_acknowledged(_hit(record, is_keyed=False), 5)
    assert [find_difference(record.ids["x"], counted) for counted in (0, 1, 2)] == [-1, 0, 1]


def test_refused_hit_must_not_be_counted(record: Record) -> None:
    _hit(record, is_keyed=False)
    record.note_refused("503 refused")
    assert [find_difference(record.ids["x"], counted) for counted in (0, 1)] == [0, 1]


def test_unknown_hit_may_be_counted(record: Record) -> None:
    record.note_unknown(_hit(record, is_keyed=False), "time-out")
    assert [find_difference(record.ids["x"], counted) for counted in (0, 1, 2)] == [0, 0, 1]


def test_unknown_hit_with_a_key_is_repeated_until_it_is_acknowledged_and_counts_once(record: Record) -> None:
    hit = _hit(record, is_keyed=True)
    record.note_unknown(hit, "time-out")
    assert hit.must_be_repeated
    record.note_sent(hit)
    record.note_refused("503 refused")  # says nothing of the first attempt
    assert hit.must_be_repeated
    assert record.unclear == {hit}
    record.note_sent(hit)
    record.note_acknowledged(hit, 5)
    assert not hit.must_be_repeated
    assert not record.unclear
    assert [find_difference(record.ids["x"], counted) for counted in (0, 1, 2)] == [-1, 0, 1]


def test_second_acknowledgement_of_a_key_adds_an_attempt_but_no_hit(record: Record) -> None:
    hit = _hit(record, is_keyed=True)
    record.note_acknowledged(hit, 5)
    record.note_sent(hit)
    record.note_unknown(hit, "time-out")
    record.note_sent(hit)
    record.note_acknowledged(hit, 6)
    assert (record.sent_attempts, record.acknowledged_attempts, record.unknown_attempts) == (3, 2, 1)
    assert (record.ids["x"].sent, record.ids["x"].acknowledged) == (1, 1)
    assert find_difference(record.ids["x"], 1) == 0


def test_as_of_asks_for_what_was_acknowledged_before_it_and_for_no_more() -> None:
    known = IdRecord()
    known.acknowledged_ms.extend([10, 20, 20, 30])
    assert [known.acknowledged_before(time_ms) for time_ms in (10, 20, 21, 31)] == [0, 1, 3, 4]
