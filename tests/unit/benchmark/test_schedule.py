from itertools import pairwise

import pytest
from hitcounter_benchmark.schedule import (
    SPIKE_FACTOR,
    ClosedLoop,
    OpenLoop,
    Profile,
    intended_times_ns,
    spike,
    steady,
)

SECOND_NS = 1_000_000_000


def count_between(profile: Profile, start: float, end: float) -> int:
    return sum(start * SECOND_NS <= time < end * SECOND_NS for time in intended_times_ns(profile))


def test_steady_rate_is_evenly_spaced() -> None:
    times = list(intended_times_ns(steady(1000, 3)))
    assert len(times) == 3000
    assert times[0] == 0
    assert {round((after - before) / 1e6) for before, after in pairwise(times)} == {1}


def test_spike_is_a_multiple_of_the_rate_in_the_middle_fifth() -> None:
    profile = spike(100, 10)
    assert count_between(profile, 0, 4) == 400
    assert count_between(profile, 4, 6) == 200 * SPIKE_FACTOR
    assert count_between(profile, 6, 10) == 400


@pytest.mark.parametrize("profile", [steady(333.3, 3), spike(77, 3.3)])
def test_times_are_in_order_and_within_the_run(profile: Profile) -> None:
    times = list(intended_times_ns(profile))
    assert times == sorted(times)
    assert 0 <= times[0] <= times[-1] <= sum(stretch.seconds for stretch in profile) * SECOND_NS


def test_closed_loop_is_due_at_once_until_the_time_is_over() -> None:
    pace = ClosedLoop(seconds=1)
    assert pace.take(5) == 5
    assert pace.take(SECOND_NS) is None
    assert pace.is_over(SECOND_NS)


def test_closed_loop_ends_after_its_requests() -> None:
    pace = ClosedLoop(seconds=1, requests=2)
    assert [pace.take(now) for now in (1, 2, 3)] == [1, 2, None]
    assert pace.count_unsent() == 0


def test_open_loop_gives_the_intended_time_however_late_it_is_asked() -> None:
    pace = OpenLoop([10, 20, 30], give_up_seconds=1)
    assert pace.take(5) is None
    assert [pace.take(25) for _ in range(3)] == [10, 20, None]
    assert not pace.is_over(25)
    assert pace.take(900) == 30
    assert pace.is_over(900)


def test_open_loop_gives_up_on_a_server_that_stays_away() -> None:
    pace = OpenLoop([10, 20, 30], give_up_seconds=1)
    assert pace.take(10) == 10
    assert pace.take(SECOND_NS) is None
    assert pace.is_over(SECOND_NS)
    assert pace.count_unsent() == 2
