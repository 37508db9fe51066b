"""The algebra of the ledger: what follows from its four counters, and what an audit may say of a moving stream."""

from __future__ import annotations

from collections import deque

from hitcounter.ledger import Audit, Ledger, StreamStatus
from hypothesis import given
from hypothesis import strategies as st

counters = st.integers(0, 10**12)


@given(counters, counters, counters, counters)
def test_accepted_is_indexed_and_duplicate_and_dead_and_backlog(a: int, b: int, c: int, d: int) -> None:
    ledger = Ledger(accepted=a, indexed=b, duplicate=c, dead=d)
    assert ledger.accepted == ledger.indexed + ledger.duplicate + ledger.dead + ledger.backlog


def test_empty_ledger_has_no_backlog() -> None:
    assert Ledger().backlog == 0


def status(*, oldest_ms: int | None, now_ms: int) -> StreamStatus:
    return StreamStatus(Ledger(), entries=1, oldest_ms=oldest_ms, as_of_ms=None, now_ms=now_ms)


def test_oldest_age_is_counted_from_the_oldest_entry_in_seconds() -> None:
    assert status(oldest_ms=1_000, now_ms=3_500).oldest_age_seconds == 2.5


def test_oldest_age_of_an_empty_stream_is_zero() -> None:
    assert status(oldest_ms=None, now_ms=3_500).oldest_age_seconds == 0


def test_oldest_age_is_never_negative_when_redis_clock_was_set_back() -> None:
    assert status(oldest_ms=3_501, now_ms=3_500).oldest_age_seconds == 0


# ── audit ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Bookkeeping:
    """A stream whose ledger is kept without a fault, by entries of some hits."""

    def __init__(self, entries: list[int]) -> None:
        self.stream = dict(enumerate(entries))
        self.next_entry = len(entries)
        self.accepted = sum(entries)
        self.settled = {"indexed": 0, "duplicate": 0, "dead": 0}

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.accepted, **self.settled)

    def accept(self, hits: int) -> None:
        self.stream[self.next_entry] = hits
        self.next_entry += 1
        self.accepted += hits

    def settle(self, choice: int, how: str) -> None:
        if self.stream:
            entry = sorted(self.stream)[choice % len(self.stream)]
            self.settled[how] += self.stream.pop(entry)

    def next_page(self, after: int, count: int) -> list[tuple[int, int]]:
        return sorted((entry, hits) for entry, hits in self.stream.items() if entry > after)[:count]


entries = st.lists(st.integers(1, 100), max_size=15)
movements = st.lists(
    st.tuples(st.just("accept"), st.integers(1, 100))
    | st.tuples(st.sampled_from(["indexed", "duplicate", "dead"]), st.integers(0, 20)),
    max_size=25,
)


def move(books: Bookkeeping, movement: tuple[str, int]) -> None:
    what, number = movement
    if what == "accept":
        books.accept(number)
    else:
        books.settle(number, what)


@given(entries, movements, st.lists(st.integers(0, 4), max_size=25), st.integers(1, 4))
def test_walk_over_a_moving_stream_never_reports_a_false_difference(
    entries: list[int], movements: list[tuple[str, int]], pauses: list[int], page_size: int
) -> None:
    books, waiting = Bookkeeping(entries), deque(movements)
    before, found, last = books.ledger, 0, -1
    for pause in [*pauses, len(movements)]:
        for _ in range(min(pause, len(waiting))):
            move(books, waiting.popleft())
        page = books.next_page(last, page_size)
        found += sum(hits for _, hits in page)
        last = page[-1][0] if page else last
    while page := books.next_page(last, page_size):
        found += sum(hits for _, hits in page)
        last = page[-1][0]
    assert Audit(before, books.ledger, found, dead_hits=0).difference == 0


@given(entries, movements, st.integers(-1000, 1000).filter(bool))
def test_true_difference_on_a_still_stream_is_always_reported_in_full(
    entries: list[int], movements: list[tuple[str, int]], fault: int
) -> None:
    books = Bookkeeping(entries)
    for movement in movements:
        move(books, movement)
    audit = Audit(books.ledger, books.ledger, books.ledger.backlog + fault, books.ledger.dead)
    assert audit.is_exact
    assert audit.difference == fault


def test_difference_beyond_what_movement_explains_is_reported_while_the_stream_moves() -> None:
    before, after = Ledger(accepted=100, indexed=40), Ledger(accepted=130, indexed=50)
    assert [Audit(before, after, hits, 0).difference for hits in (45, 49, 50, 60, 90, 91, 95)] == [
        -5,
        -1,
        0,
        0,
        0,
        1,
        5,
    ]
    assert not Audit(before, after, 60, 0).is_exact


def test_dead_letters_are_compared_with_what_the_ledger_has_as_dead() -> None:
    ledger = Ledger(accepted=10, dead=4)
    assert [Audit(ledger, ledger, 6, dead_hits).dead_difference for dead_hits in (3, 4, 5)] == [-1, 0, 1]


def test_dead_letters_sent_again_during_a_walk_are_no_difference() -> None:
    before = Ledger(accepted=10, dead=5, indexed=3)
    after = Ledger(accepted=10, indexed=3, replayed=5)
    for met in (0, 5):
        assert Audit(before, after, stream_hits=2 + met, dead_hits=0).difference == 0
