"""What a run measures, and what the operator promises of it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from tools.simulator.loads import LOADS
from tools.simulator.report import OURS, find_best, is_at_least_as_good
from tools.simulator.runs import Run, count_reversals, find_quantile, run
from tools.simulator.scalers import (
    CHART,
    MAX_REPLICAS,
    POLICY,
    SCALERS,
    Autoscaled,
    measure_arrival,
    measure_backlog,
    measure_formula,
    measure_utilization,
)

BY_NAME = {load.name: load for load in LOADS}


@cache
def runs(load: str) -> dict[str, Run]:
    """Return what every scaler did with a load."""
    return {name: run(BY_NAME[load], create()) for name, create in SCALERS.items()}


@pytest.mark.parametrize("load", ["step", "ramp", "oscillation"])
def test_the_operator_is_at_least_as_good_as_the_best_of_the_others(load: str) -> None:
    others = {name: one for name, one in runs(load).items() if name != OURS}
    assert is_at_least_as_good(runs(load)[OURS], others[find_best(others)])


@pytest.mark.parametrize("load", ["step", "ramp", "oscillation"])
def test_it_is_not_for_its_shorter_cooldown_that_the_operator_takes_fewer_pods(load: str) -> None:
    same = replace(CHART, down_window_seconds=int(POLICY.cooldown_seconds))
    measures = (measure_formula, measure_backlog(30.0), measure_backlog(5.0), measure_arrival, measure_utilization)
    others = {str(measure): run(BY_NAME[load], Autoscaled(measure, same)) for measure in measures}
    assert is_at_least_as_good(runs(load)[OURS], others[find_best(others)])


@pytest.mark.parametrize("load", BY_NAME)
def test_the_operator_turns_no_more_often_than_the_load(load: str) -> None:
    turns = {"oscillation": 59, "day": 3, "outage": 3}.get(load, 1)
    assert runs(load)[OURS].reversals <= turns


def test_the_brake_saves_pods_that_elasticsearch_would_not_feed() -> None:
    assert runs("refusing")[OURS].pod_minutes < 0.6 * runs("slow")[OURS].pod_minutes
    assert runs("refusing")[OURS].p99_wait_seconds <= runs("slow")[OURS].p99_wait_seconds


def test_the_same_run_comes_to_the_same_result() -> None:
    assert run(BY_NAME["step"], SCALERS[OURS]()) == runs("step")[OURS]


def test_no_scaler_leaves_its_bounds() -> None:
    for one in runs("flash crowd").values():
        assert 1 <= min(one.replicas) <= max(one.replicas) <= MAX_REPLICAS


@pytest.mark.parametrize(("share", "expected"), [(0.5, 0), (0.9, 0), (0.95, 3), (0.99, 3), (1.0, 7)])
def test_quantile_is_the_wait_that_so_many_hits_did_not_exceed(share: float, expected: int) -> None:
    assert find_quantile({7: 1.0, 0: 90.0, 3: 9.0}, share) == expected


@pytest.mark.parametrize(
    ("course", "expected"), [([1, 1], 0), ([1, 5, 9], 0), ([1, 5, 5, 2, 1], 1), ([3, 1, 2, 2, 1], 2), ([], 0)]
)
def test_reversals_are_the_turns_of_a_course(course: list[int], expected: int) -> None:
    assert count_reversals(course) == expected
