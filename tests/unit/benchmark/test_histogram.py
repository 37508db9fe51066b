import random

import pytest
from hitcounter_benchmark.histogram import Histogram


def test_nothing_recorded_is_zero() -> None:
    histogram = Histogram()
    assert (histogram.total, histogram.percentile_ns(99), histogram.max_ns) == (0, 0, 0)


@pytest.mark.parametrize("percent", [50, 90, 99, 99.9, 100])
def test_percentiles_are_within_a_hundredth_above_the_exact_ones(percent: float) -> None:
    draw = random.Random(7)
    durations = sorted(int(draw.lognormvariate(14, 2)) for _ in range(20_000))
    histogram = Histogram()
    for duration in durations:
        histogram.record(duration)
    exact = durations[-int(-len(durations) * percent // 100) - 1]
    assert exact <= histogram.percentile_ns(percent) <= exact * 1.01


def test_small_durations_are_exact() -> None:
    histogram = Histogram()
    for duration in range(100):
        histogram.record(duration)
    assert [histogram.percentile_ns(percent) for percent in (1, 50, 100)] == [0, 49, 99]


def test_maximum_is_exact_and_bounds_every_percentile() -> None:
    histogram = Histogram()
    histogram.record(1_000_003)
    assert histogram.max_ns == histogram.percentile_ns(99.9) == 1_000_003


def test_durations_beyond_the_range_are_counted_as_the_longest() -> None:
    histogram = Histogram()
    histogram.record(1 << 60)
    histogram.record(-5)
    assert histogram.total == 2
    assert histogram.percentile_ns(50) == 0
    assert histogram.percentile_ns(100) == (1 << 42) - 1
