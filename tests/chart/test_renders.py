"""Every case renders, the same each time and under both Helms, into objects that their schemas accept."""

from __future__ import annotations

import pytest
import yaml

from tests.chart.cases import CASES, PROFILES
from tests.chart.rendering import CHART, KUBERNETES, Rendering, describe, helm, render_all, run_helm
from tests.chart.schemas import find_faults, newest_kubernetes
from tests.consistency.workspace import run

OLDEST = "1.30.0"
"""As Chart.yaml asks for."""


def test_lint_has_nothing_to_say() -> None:
    for profile in PROFILES:
        files = [argument for file in profile.files for argument in ("--values", file)]
        assert "0 chart(s) failed" in run(helm(4), "lint", "--strict", CHART, *files)


def test_the_same_values_render_to_the_same_bytes(renderings: list[Rendering]) -> None:
    for rendering in renderings:
        if rendering.case in PROFILES:
            assert run_helm("{}", rendering.case.files) == rendering.text


def test_both_helms_make_the_same_objects(renderings: list[Rendering]) -> None:
    for ours, theirs in zip(renderings, render_all(CASES, major=3), strict=True):
        assert sorted(map(repr, ours.objects)) == sorted(map(repr, theirs.objects)), ours.case.name


@pytest.mark.parametrize("kubernetes", [OLDEST, newest_kubernetes()])
def test_every_object_keeps_to_its_schema(renderings: list[Rendering], kubernetes: str) -> None:
    checked: dict[str, str] = {}
    for rendering in renderings:
        for item in rendering.objects:
            if (text := repr(item)) not in checked:
                checked[text] = rendering.case.name
                assert not find_faults(item, kubernetes), f"{describe(item)} of {rendering.case.name}"


def test_chart_asks_for_the_oldest_kubernetes_that_is_tried() -> None:
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"] == f">={OLDEST}-0"


def test_schemas_refuse_a_field_that_does_not_exist(renderings: list[Rendering]) -> None:
    kinds = {item["kind"]: item for rendering in renderings for item in rendering.objects}
    assert {"ScaledObject", "TriggerAuthentication", "PodMonitor", "HTTPRoute", "HitCounter", "Deployment"} <= set(
        kinds
    )
    for kind in kinds.keys() - {"ConfigMap", "Secret", "ServiceAccount", "Role", "RoleBinding"}:
        wrong = {**kinds[kind], "spec": {**kinds[kind]["spec"], "noSuchField": 1}}
        assert any("noSuchField" in fault for fault in find_faults(wrong, KUBERNETES)), kind
