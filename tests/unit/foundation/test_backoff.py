from __future__ import annotations

from hitcounter.backoff import backoff_seconds
from hypothesis import given
from hypothesis import strategies as st


@given(st.integers(0, 10**9), st.floats(0.001, 1), st.floats(1, 60))
def test_wait_lies_between_half_of_a_doubling_bound_and_the_bound(attempt: int, first: float, most: float) -> None:
    bound = min(most, first * 2.0 ** min(attempt, 30))
    assert bound / 2 <= backoff_seconds(attempt, first_seconds=first, max_seconds=most) <= bound


def test_waits_grow_to_the_most_and_no_further() -> None:
    waits = [backoff_seconds(attempt, first_seconds=1, max_seconds=8) for attempt in range(10)]
    assert waits[0] <= waits[2] <= waits[4]  # their ranges do not overlap
    assert max(waits) <= 8


def test_two_who_fail_together_do_not_come_back_together() -> None:
    assert len({backoff_seconds(5) for _ in range(20)}) > 1
