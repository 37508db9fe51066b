"""What is asked for, and which clock is to be trusted with dropping data."""

from __future__ import annotations

import pytest
from hitcounter_operator.desired import JUMP_HOLD_SECONDS, ClockWatch, doubt_own_clock, find_obstacle, read_spec
from hitcounter_operator.notes import Problem
from hitcounter_operator.objects import Deployment
from hitcounter_operator.resource import Mode

NOW_MS = 1_795_507_200_000.0
DEPLOYMENT = Deployment("indexer", 1, 1, "app=indexer")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, "spec.indexer: Field required"),
        ({"indexer": {"deployment": "Not A Name"}}, "spec.indexer.deployment: String should match"),
        ({"indexer": {"deployment": "a"}, "scaling": {"minReplicas": 5, "maxReplicas": 4}}, "must not be above"),
    ],
)
def test_spec_that_slipped_through_is_a_problem_that_names_the_field(spec: dict[str, object], message: str) -> None:
    problem = read_spec(spec)
    assert isinstance(problem, Problem)
    assert problem.reason == "SpecInvalid"
    assert message in problem.message


def test_field_of_a_newer_version_is_left_alone() -> None:
    assert not isinstance(read_spec({"indexer": {"deployment": "a", "colour": "blue"}, "unknown": {}}), Problem)


@pytest.mark.parametrize(
    ("mode", "deployment", "scalers", "reason"),
    [
        (Mode.OPERATOR, DEPLOYMENT, [], None),
        (Mode.OPERATOR, None, [], "DeploymentNotFound"),
        (Mode.OPERATOR, DEPLOYMENT, None, "ScalersUnknown"),
        (Mode.OPERATOR, DEPLOYMENT, ["hpa"], "ManagedByHPA"),
        (Mode.OPERATOR, Deployment("indexer", 0, 0, ""), [], "ScaledToZero"),
        (Mode.OBSERVE, DEPLOYMENT, ["hpa"], "Observing"),
        (Mode.OBSERVE, None, [], "DeploymentNotFound"),
        (Mode.NONE, DEPLOYMENT, [], "Disabled"),
    ],
)
def test_operator_scales_only_what_is_there_and_nobody_else_s(
    mode: Mode, deployment: Deployment | None, scalers: list[str] | None, reason: str | None
) -> None:
    problem = find_obstacle(mode, deployment, "indexer", scalers)
    assert (problem and problem.reason) == reason


@pytest.mark.parametrize(
    ("others", "since_jump", "doubt"),
    [
        ({"Redis": NOW_MS + 59_000}, None, None),
        ({"Redis": NOW_MS - 59_000}, JUMP_HOLD_SECONDS, None),
        ({"Redis": NOW_MS - 61_000}, None, "the clock of the operator is 61 s ahead of that of Redis"),
        ({"Redis": NOW_MS, "Kubernetes": NOW_MS + 86_400_000}, None, "86400 s behind that of Kubernetes"),
        ({"Redis": NOW_MS}, 5.0, "the operator's clock jumped 5 s ago"),
        ({}, None, "no other clock is known to compare with"),
    ],
)
def test_clock_is_trusted_only_if_others_agree_and_it_did_not_jump(
    others: dict[str, float], since_jump: float | None, doubt: str | None
) -> None:
    found = doubt_own_clock(NOW_MS, others, since_jump)
    assert (found is None) if doubt is None else (found is not None and doubt in found)


def test_jump_is_noticed_either_way_and_a_slow_drift_is_not() -> None:
    watch = ClockWatch()
    assert watch.look(0.0, 0.0) is None
    assert watch.look(3650.0, 3600.0) is None
    assert watch.look(3600.0, 3605.0) is None
    assert watch.look(0.0, 3610.0) == 0.0
    assert watch.look(10.0, 3620.0) == 10.0
