"""What is asked for, and what keeps the operator from scaling."""

from __future__ import annotations

import pytest
from hitcounter_operator.autoscaler import find_obstacle
from hitcounter_operator.resource import Mode
from hitcounter_operator.state import Deployment, Problem
from hitcounter_operator.status import read_spec

DEPLOYMENT = Deployment(1, 1)


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
        (Mode.OPERATOR, Deployment(0, 0), [], "ScaledToZero"),
        (Mode.OBSERVE, DEPLOYMENT, ["hpa"], "Observing"),
        (Mode.OBSERVE, None, [], "DeploymentNotFound"),
    ],
)
def test_operator_scales_only_what_is_there_and_nobody_else_s(
    mode: Mode, deployment: Deployment | None, scalers: list[str] | None, reason: str | None
) -> None:
    problem = find_obstacle(mode, deployment, "indexer", scalers)
    assert (problem and problem.reason) == reason
