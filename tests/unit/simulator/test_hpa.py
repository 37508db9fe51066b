"""The HorizontalPodAutoscaler does what Kubernetes documents of it: otherwise the comparison is none."""

from __future__ import annotations

import pytest

from tools.simulator.hpa import KUBERNETES, SYNC_SECONDS, Behavior, HorizontalPodAutoscaler, is_tolerable
from tools.simulator.scalers import CHART


def follow(behavior: Behavior, wanted: list[int], *, start: int = 1, most: int = 100) -> list[int]:
    """Return the number of pods after each sync."""
    autoscaler = HorizontalPodAutoscaler(behavior, 1, most)
    numbers = [start]
    for turn, number in enumerate(wanted):
        numbers.append(autoscaler.scale(turn * SYNC_SECONDS, numbers[-1], number))
    return numbers[1:]


def test_unless_told_otherwise_pods_double_or_gain_four_in_fifteen_seconds() -> None:
    assert follow(KUBERNETES, [50] * 5) == [5, 10, 20, 40, 50]


def test_the_charts_behavior_goes_up_by_twenty_or_tenfold() -> None:
    assert follow(CHART, [100] * 2) == [21, 100]


@pytest.mark.parametrize(("behavior", "syncs"), [(KUBERNETES, 20), (CHART, 16)])
def test_going_down_waits_for_the_highest_within_the_window(behavior: Behavior, syncs: int) -> None:
    numbers = follow(behavior, [10] + [1] * 40, start=10)
    assert numbers[:syncs] == [10] * syncs
    assert numbers[syncs] < 10


def test_the_charts_behavior_halves_at_most_once_a_minute() -> None:
    numbers = follow(CHART, [16] + [1] * 40, start=16)
    assert numbers[16::4][:5] == [8, 4, 2, 1, 1]


def test_bounds_hold() -> None:
    assert follow(CHART, [50, 50], most=7) == [7, 7]


@pytest.mark.parametrize(("ratio", "expected"), [(1.0, True), (1.09, True), (0.91, True), (1.11, False), (0.89, False)])
def test_a_tenth_more_or_less_is_tolerated(ratio: float, expected: bool) -> None:
    assert is_tolerable(ratio) is expected
