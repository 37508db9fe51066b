"""An upgrade from the last release goes through, and finds its data."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.immutable import GOLDEN_CASES, collect
from tests.chart.rendering import (
    CHART,
    KUBERNETES,
    NAMESPACE,
    Case,
    Rendering,
    Values,
    describe,
    find_pod,
    helm,
    render,
)
from tests.consistency.workspace import run

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


@pytest.mark.parametrize(
    "values",
    [
        {"redis": {"persistence": {"size": "9Gi"}}},
        {"elasticsearch": {"persistence": {"storageClass": "other"}}},
        {"redis": {"fullnameOverride": "other"}},
        {"fullnameOverride": "other"},
    ],
    ids=["another size", "another class", "another name of a store", "another name"],
)
def test_what_no_upgrade_survives_is_seen(values: Values) -> None:
    now = collect(render(Case("", values)))
    assert {name for name, part in last_release()["defaults"].items() if now.get(name) != part}


def test_new_version_of_the_chart_alone_restarts_nothing(tmp_path: Path) -> None:
    newer = shutil.copytree(CHART, tmp_path / "hitcounter")
    for file in [newer / "Chart.yaml", *newer.glob("charts/*/Chart.yaml")]:
        file.write_text(re.sub(r"^( *version): .*", r"\1: 0.1.99", file.read_text(), flags=re.MULTILINE))
    text = run(helm(4), "template", "hc", newer, "--namespace", NAMESPACE, "--kube-version", KUBERNETES)
    upgraded = {describe(item): find_pod(item) for item in yaml.safe_load_all(text) if item and item["kind"] != "Pod"}
    for pod in render(Case("")).pods():
        if pod.runs_for_ever:
            assert upgraded[pod.name] == pod.template


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
