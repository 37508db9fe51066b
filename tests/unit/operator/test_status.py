"""What of a turn becomes the status, and what of it is news."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hitcounter.ledger import Ledger, StreamStatus
from hitcounter.scaling import Memory, Rates, Recommendation
from hitcounter.scaling import Reason as Source
from hitcounter_operator.resource import ConditionType, Mode, Status
from hitcounter_operator.state import IndexState, Observed, Problem, QueueState
from hitcounter_operator.status import (
    MOVED_SECONDS,
    build_status,
    find_transitions,
    is_news,
    read_age,
    read_status,
    write_age,
    write_status,
)
from hypothesis import given
from hypothesis import strategies as st

NOW = datetime(2026, 11, 24, 8, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)


def observed(
    *, backlog: int = 0, arrival: float = 0.0, problem: Problem | None = None, index: IndexState | None = None
) -> Observed:
    """Return what a turn found, well unless said otherwise."""
    rates = None if problem else Rates(arrival, 0.0, backlog, 1000.0)
    status = StreamStatus(Ledger(accepted=backlog), 1 if backlog else 0, None, None, 0)
    recommendation = Recommendation(None, Source.UNKNOWN, "", None, rates, Memory())
    return Observed(
        generation=1,
        mode=Mode.NONE,
        queue=QueueState(None if problem else status, recommendation, problem=problem),
        index=index or IndexState(2),
        retention_days=4,
    )


WELL = build_status(observed(), Status(), NOW)


def test_status_survives_being_written_and_read() -> None:
    assert read_status(write_status(WELL)) == WELL


def test_status_of_another_version_is_taken_for_none() -> None:
    assert read_status({"conditions": [{"type": "Strange"}]}) == Status()


def test_same_observation_are_no_news() -> None:
    assert not is_news(WELL, build_status(observed(), WELL, LATER), 3600)


def test_condition_keeps_its_time_until_it_turns() -> None:
    problem = Problem("RedisUnavailable", "Redis is away.")
    same = build_status(observed(), WELL, LATER)
    turned = build_status(observed(problem=problem), WELL, LATER)
    since = {condition.type: condition.last_transition_time for condition in turned.conditions}
    assert {condition.last_transition_time for condition in same.conditions} == {NOW}
    assert since[ConditionType.QUEUE_READY] == since[ConditionType.READY] == LATER
    assert since[ConditionType.INDEX_READY] == NOW


def test_turned_condition_is_news_at_once_and_one_note() -> None:
    turned = build_status(observed(problem=Problem("RedisUnavailable", "Redis is away.")), WELL, LATER)
    assert is_news(WELL, turned, 0.0)
    (note,) = find_transitions(WELL, turned)
    assert (note.shown_reason, note.message, note.is_warning) == ("RedisUnavailable", "Redis is away.", True)
    (back,) = find_transitions(turned, build_status(observed(), turned, LATER))
    assert (back.shown_reason, back.is_warning) == ("QueueWell", False)


def test_well_beginning_is_not_worth_a_note() -> None:
    assert find_transitions(Status(), WELL) == []


def test_remark_about_the_indices_stands_in_the_message() -> None:
    status = build_status(observed(index=IndexState(2, None, "Something is strange.")), WELL, LATER)
    (message,) = [one.message for one in status.conditions if one.type == ConditionType.INDEX_READY]
    assert message.endswith("Something is strange.")


@pytest.mark.parametrize(
    ("before", "after", "seconds", "expected"),
    [
        (1000, 1040, MOVED_SECONDS, False),
        (1000, 1060, MOVED_SECONDS, True),
        (1000, 1060, MOVED_SECONDS - 1, False),
        (0, 1, MOVED_SECONDS, True),
        (1, 0, MOVED_SECONDS, True),
    ],
)
def test_moving_number_is_news_now_and_then_and_only_if_it_moved(
    before: int, after: int, seconds: float, expected: bool
) -> None:
    old = build_status(observed(backlog=before), WELL, NOW)
    new = build_status(observed(backlog=after), old, NOW)
    assert is_news(old, new, seconds) is expected


def test_what_is_unknown_by_now_is_taken_away() -> None:
    old = build_status(observed(backlog=7), WELL, NOW)
    new = build_status(observed(problem=Problem("RedisUnavailable", "Redis is away.")), old, NOW)
    assert write_status(new)["backlog"] is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59.9, "59s"), (65, "1m5s"), (3600, "1h0m"), (2 * 3600 + 185, "2h3m")]
)
def test_age_is_written_as_people_read_it(seconds: float, text: str) -> None:
    assert write_age(seconds) == text


@given(st.integers(0, 10**7))
def test_age_that_was_written_is_read_to_the_minute(seconds: int) -> None:
    read = read_age(write_age(seconds))
    assert read is not None
    assert 0 <= seconds - read < (60 if seconds >= 3600 else 1)
