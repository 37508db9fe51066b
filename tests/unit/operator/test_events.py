"""Events are as many as client-go's recorder would post, whatever flips how often."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from hitcounter_operator.events import BURST, COMBINED, SIMILAR_MAX, EventLimits
from hitcounter_operator.resource import HitCounter
from hitcounter_operator.state import Notice, Reason, list_names

STARTED = datetime(2026, 11, 24, 8, tzinfo=UTC)
ABOUT = HitCounter(name="count", namespace="shop", uid="7", generation=1, spec={}, status={})


@pytest.fixture
def limits() -> EventLimits:
    numbers = count(1)
    return EventLimits("operator-1", lambda: str(next(numbers)))


def build(
    limits: EventLimits, message: str, *, seconds: float = 0, reason: str = "Scaled", about: HitCounter = ABOUT
) -> Mapping[str, Any] | None:
    now = STARTED + timedelta(seconds=seconds)
    return limits.build(about, Notice(Reason.CONDITION_CHANGED, message, event_reason=reason), now)


def name_and_count(event: Mapping[str, Any] | None) -> tuple[str, int] | None:
    return None if event is None else (event["metadata"]["name"], event["count"])


def test_same_thing_again_raises_the_count_of_its_event(limits: EventLimits) -> None:
    built = [build(limits, "1 → 2", seconds=seconds) for seconds in (0, 5, 600)]
    assert [name_and_count(event) for event in built] == [("count.1", 1), ("count.1", 2), ("count.1", 3)]
    last = built[-1]
    assert last is not None
    assert (last["firstTimestamp"], last["lastTimestamp"]) == ("2026-11-24T08:00:00Z", "2026-11-24T08:10:00Z")


def test_things_that_differ_are_events_of_their_own(limits: EventLimits) -> None:
    built = [
        build(limits, "1 → 2"),
        build(limits, "2 → 3"),
        build(limits, "1 → 2", reason="WouldScale"),
        build(limits, "1 → 2", about=ABOUT.model_copy(update={"uid": "8"})),
    ]
    names = [event["metadata"]["name"] for event in built if event is not None]
    assert len(set(names)) == 4


def test_many_messages_of_one_reason_become_one_event_after_the_first_ten(limits: EventLimits) -> None:
    built = [build(limits, f"message {number}", seconds=number) for number in range(SIMILAR_MAX + 5)]
    names = {event["metadata"]["name"] for event in built if event is not None}
    assert len(names) == SIMILAR_MAX + 1
    last = built[-1]
    assert last is not None
    assert (last["count"], last["message"]) == (5, f"{COMBINED}message 14")
    after = build(limits, "message 15", seconds=700)
    assert after is not None
    assert after["message"] == "message 15"


def test_resource_whose_condition_flips_all_day_gets_few_events_and_one_in_five_minutes(limits: EventLimits) -> None:
    built = []
    for seconds in range(0, 86_400, 5):
        message = "is held" if seconds % 10 else "scales"
        built.append(build(limits, message, seconds=seconds))
    posted = [event for event in built if event is not None]
    assert len({event["metadata"]["name"] for event in posted}) == 2
    assert len(posted) <= BURST + 86_400 // 300 + 1


def test_clock_that_is_set_back_lets_no_more_events_through(limits: EventLimits) -> None:
    for number in range(BURST):
        assert build(limits, "x", seconds=number) is not None
    assert build(limits, "x", seconds=-3600) is None
    assert build(limits, "x", seconds=-3600) is None


def test_what_is_remembered_is_bounded(limits: EventLimits) -> None:
    for number in range(3000):
        build(limits, f"message {number}", seconds=number * 700, reason=f"Reason{number}")
    assert len(limits._events) <= 1000


def test_event_is_about_the_resource_and_no_longer_than_kubernetes_takes(limits: EventLimits) -> None:
    event = limits.build(ABOUT, Notice(Reason.SCALED, "→" * 2000, is_warning=True), STARTED)
    assert event is not None
    assert event["involvedObject"]["uid"] == "7"
    assert (event["reason"], event["type"]) == ("Scaled", "Warning")
    assert event["firstTimestamp"] == "2026-11-24T08:00:00Z"
    assert len(event["message"].encode()) <= 1024


def test_many_names_are_told_by_the_first_and_how_many_more_there_are() -> None:
    assert list_names("abc", 3) == "a, b, c"
    assert list_names("abcd", 3) == "a, b, c and 1 more"
