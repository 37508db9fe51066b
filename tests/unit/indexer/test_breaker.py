"""The circuit breaker of each index: when it opens, how it is probed, when it closes."""

from __future__ import annotations

import pytest
from hitcounter_indexer.breaker import OPEN_AFTER_SECONDS, PROBE_SECONDS, CircuitBreakers
from hitcounter_indexer.deferred import DEFERRED_MAX_ENTRIES, DeferredEntries
from hitcounter_indexer.documents import Action

from tests.unit.indexer.fakes import TODAY, YESTERDAY


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breakers(clock: Clock) -> CircuitBreakers:
    return CircuitBreakers(clock)


@pytest.fixture
def opened(breakers: CircuitBreakers, clock: Clock) -> CircuitBreakers:
    """The breakers when yesterday has refused for long enough while today took documents."""
    since = clock.now
    clock.now += OPEN_AFTER_SECONDS
    breakers.note_accepted([TODAY])
    assert breakers.note_refused(YESTERDAY, since)
    return breakers


def action(position: int, index: str = YESTERDAY) -> Action:
    return Action(position, 1, index, False, b"")


def test_it_opens_once_an_index_has_refused_everything_for_a_while_and_another_has_taken_something(
    breakers: CircuitBreakers, clock: Clock
) -> None:
    since = clock.now
    breakers.note_accepted([TODAY])
    assert not breakers.note_refused(YESTERDAY, since)
    clock.now += OPEN_AFTER_SECONDS
    assert breakers.note_refused(YESTERDAY, clock.now)
    assert (breakers.open_count, breakers.is_open(YESTERDAY)) == (1, True)
    assert not breakers.note_refused(YESTERDAY, clock.now), "it is no news"


def test_it_stays_closed_while_no_other_index_takes_anything(breakers: CircuitBreakers, clock: Clock) -> None:
    breakers.note_accepted([TODAY])
    clock.now += 1
    for _ in range(10):
        for index in (TODAY, YESTERDAY):
            assert not breakers.note_refused(index, clock.now)
        clock.now += 60
    assert breakers.open_count == 0


def test_an_index_that_takes_something_in_between_begins_anew(breakers: CircuitBreakers, clock: Clock) -> None:
    for _ in range(10):
        breakers.note_accepted([TODAY])
        assert not breakers.note_refused(YESTERDAY, clock.now)
        clock.now += OPEN_AFTER_SECONDS * 0.9
        breakers.note_accepted([YESTERDAY])
    assert breakers.open_count == 0


def test_one_probe_at_a_time_is_due_each_interval(opened: CircuitBreakers, clock: Clock) -> None:
    opened.keep_for_probe("1-0", action(1))
    assert opened.take_due_probes() == {}
    clock.now += PROBE_SECONDS
    assert opened.take_due_probes() == {YESTERDAY: [("1-0", action(1))]}
    clock.now += 100 * PROBE_SECONDS
    assert opened.take_due_probes() == {}, "the first is still under way"
    opened.note_probed(YESTERDAY, is_closing=False)
    assert opened.take_due_probes() == {}
    clock.now += PROBE_SECONDS
    assert opened.take_due_probes()
    assert opened.is_open(YESTERDAY)


def test_probe_can_close_it(opened: CircuitBreakers, clock: Clock) -> None:
    opened.keep_for_probe("1-0", action(1))
    clock.now += PROBE_SECONDS
    opened.take_due_probes()
    opened.note_probed(YESTERDAY, is_closing=True)
    assert not opened.is_open(YESTERDAY)


def test_probe_sends_a_few_of_the_documents_that_were_left_last(opened: CircuitBreakers, clock: Clock) -> None:
    for position in range(1000):
        opened.keep_for_probe("1-0", action(position))
    opened.keep_for_probe("1-0", action(7, TODAY))
    clock.now += PROBE_SECONDS
    assert opened.take_due_probes() == {YESTERDAY: [("1-0", action(position)) for position in range(990, 1000)]}


def test_what_is_remembered_of_indices_is_bounded(breakers: CircuitBreakers, clock: Clock) -> None:
    for day in range(1000):
        clock.now += 1
        breakers.note_accepted([f"day-{day}"])
    assert breakers.has_accepted_since("day-999", 0)
    assert not breakers.has_accepted_since("day-0", 0)


# ── entries left ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_entries_are_deferred_by_the_index_they_wait_for() -> None:
    left = DeferredEntries()
    left.add(YESTERDAY, ["1-0", "2-0"])
    left.add(TODAY, ["3-0"])
    assert (len(left), sorted(left), "2-0" in left) == (3, ["1-0", "2-0", "3-0"], True)
    assert left.take(YESTERDAY) == ["1-0", "2-0"]
    assert left.take(YESTERDAY) == []
    assert (left.indices, list(left)) == ([TODAY], ["3-0"])


def test_no_more_entries_are_remembered_than_there_is_room_for() -> None:
    left = DeferredEntries()
    left.add(YESTERDAY, [f"{number}-0" for number in range(DEFERRED_MAX_ENTRIES + 10)])
    left.add(TODAY, ["more"])
    assert left.is_full
    assert len(left) == DEFERRED_MAX_ENTRIES


def test_index_of_a_request_without_a_response_is_suspected_until_it_accepts_a_document() -> None:
    """Both were in one request. Then each is asked by itself: today accepts, yesterday does not respond."""
    clock = Clock()
    breakers = CircuitBreakers(clock)
    breakers.note_unanswered({TODAY, YESTERDAY}, clock.now)
    clock.now += 1.0
    breakers.note_accepted([TODAY])
    clock.now += 1.0
    assert breakers.note_refused(YESTERDAY, clock.now)
    assert not breakers.note_refused(TODAY, clock.now), "it accepted a document in between"
