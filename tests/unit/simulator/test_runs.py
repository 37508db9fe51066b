"""What the formula is held to on made-up loads, and how that is measured."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import pytest

from tools.simulator.loads import LOADS
from tools.simulator.runs import Run, count_reversals, find_quantile, run
from tools.simulator.scaler import MAX_REPLICAS, MIN_REPLICAS

BY_NAME = {load.name: load for load in LOADS}


class Record(NamedTuple):
    """What the operator came to when it still read each indexer."""

    p99_wait_seconds: int
    pod_minutes: int
    peak_backlog_hits: int
    reversals: int


RECORDS = {
    "step": Record(18, 309, 2_336_000, 1),
    "ramp": Record(0, 576, 38_000, 1),
    "oscillation": Record(10, 1113, 1_945_000, 5),
    "flash crowd": Record(28, 180, 8_025_000, 1),
    "day": Record(0, 2365, 162_000, 3),
    "refusing": Record(315, 324, 25_496_000, 1),
    "slow": Record(316, 614, 25_601_000, 1),
    "outage": Record(290, 502, 18_000_000, 3),
    "late numbers": Record(46, 317, 5_583_000, 3),
}


@cache
def run_load(name: str) -> Run:
    return run(BY_NAME[name])


@pytest.mark.parametrize("load", BY_NAME)
def test_nothing_is_a_tenth_worse_than_when_the_operator_read_each_indexer(load: str) -> None:
    now, record = run_load(load), RECORDS[load]
    assert now.p99_wait_seconds <= 1.1 * record.p99_wait_seconds
    assert now.pod_minutes <= 1.1 * record.pod_minutes
    assert now.peak_backlog_hits <= 1.1 * record.peak_backlog_hits
    assert now.reversals <= record.reversals


def test_backpressure_saves_pods_that_elasticsearch_could_not_keep_up_with() -> None:
    assert run_load("refusing").pod_minutes < 0.6 * run_load("slow").pod_minutes
    assert run_load("refusing").p99_wait_seconds <= run_load("slow").p99_wait_seconds


def test_the_same_run_comes_to_the_same_result() -> None:
    assert run(BY_NAME["step"]) == run_load("step")


def test_the_number_stays_within_its_bounds_and_uses_them() -> None:
    replicas = run_load("flash crowd").replicas
    assert (min(replicas), max(replicas)) == (MIN_REPLICAS, MAX_REPLICAS)


@pytest.mark.parametrize(("share", "expected"), [(0.5, 0), (0.9, 0), (0.95, 3), (0.99, 3), (1.0, 7)])
def test_quantile_is_the_wait_that_so_many_hits_did_not_exceed(share: float, expected: int) -> None:
    assert find_quantile({7: 1.0, 0: 90.0, 3: 9.0}, share) == expected


@pytest.mark.parametrize(
    ("course", "expected"), [([1, 1], 0), ([1, 5, 9], 0), ([1, 5, 5, 2, 1], 1), ([3, 1, 2, 2, 1], 2), ([], 0)]
)
def test_reversals_are_the_turns_of_a_course(course: list[int], expected: int) -> None:
    assert count_reversals(course) == expected
