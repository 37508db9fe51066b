"""An upgrade from the last release goes through, and finds its data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.immutable import GOLDEN_CASES, collect
from tests.chart.rendering import CHART, Case, Rendering, render

GOLDEN = Path(__file__).parent / "golden"


def last_release() -> dict[str, Any]:
    newest = max(GOLDEN.glob("*.yaml"), key=lambda path: tuple(map(int, path.stem.split("."))))
    golden: dict[str, Any] = yaml.safe_load(newest.read_text())
    return golden


@pytest.mark.parametrize("case", GOLDEN_CASES.values(), ids=list(GOLDEN_CASES))
def test_nothing_immutable_has_changed_since_the_last_release(case: Case) -> None:
    now = collect(render(case))
    for name, part in last_release()[case.name].items():
        assert now.get(name) == part, f"{name}: an upgrade could not go through"


def test_golden_files_are_of_this_major_version() -> None:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
    assert {path.stem.split(".")[0] for path in GOLDEN.glob("*.yaml")} == {version.split(".")[0]}


def test_volumes_outlive_the_release(renderings: list[Rendering]) -> None:
    for rendering in renderings:
        for item in rendering.all("StatefulSet"):
            if "volumeClaimTemplates" in item["spec"]:
                retention = item["spec"]["persistentVolumeClaimRetentionPolicy"]
                assert retention == {"whenDeleted": "Retain", "whenScaled": "Retain"}
            for claim in item["spec"].get("volumeClaimTemplates", []):
                assert set(claim["metadata"]) <= {"name", "annotations"}, "a label there would be immutable"
