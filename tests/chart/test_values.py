"""Values, their schema, their comments and what is made from them agree."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.rendering import CHART, KUBERNETES, ROOT, Case, render
from tests.chart.schemas import find_faults
from tests.consistency.workspace import run
from tools.chart import read_values

STORES = ["redis", "elasticsearch"]
CHARTS = [CHART, *(CHART / "charts" / store for store in STORES)]


def paths_of_values(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        yield f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from paths_of_values(value, f"{prefix}{name}.")


def nodes_of_schema(
    schema: Mapping[str, Any], definitions: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    for name, child in schema.get("properties", {}).items():
        if child.get("deprecated"):
            continue  # accepted for validate.yaml, whose message tells what replaces it
        yield f"{prefix}{name}", child
        yield from nodes_of_schema(child, definitions, f"{prefix}{name}.")


def paths_of_schema(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> list[str]:
    return [path for path, _ in nodes_of_schema(schema, definitions)]


def load(chart: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    return yaml.safe_load((chart / "values.yaml").read_text()), json.loads((chart / "values.schema.json").read_text())


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.name)
def test_schema_knows_every_value(chart: Path) -> None:
    values, schema = load(chart)
    known = set(paths_of_schema(schema, schema["definitions"]))
    free = re.compile(r"ecurityContext\.|resources\.|strategy\.|behavior\.|kedaFrom")  # as Kubernetes has them
    assert {path for path in paths_of_values(values) if path not in known and not free.search(path)} == set()


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.name)
def test_every_value_of_the_schema_stands_in_the_values(chart: Path) -> None:
    values, schema = load(chart)
    present = set(paths_of_values(values))
    settings = re.compile(r"(^|\.)config\.\w+|^global$|resources\.")  # their defaults are the code's
    known = paths_of_schema(schema, schema["definitions"])
    assert {path for path in known if path not in present and not settings.search(path)} == set()


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.name)
def test_every_value_is_explained(chart: Path) -> None:
    values, _ = load(chart)
    explained = {value.path for value in read_values((chart / "values.yaml").read_text())}
    paths = list(paths_of_values(values))
    leaves = [path for path in paths if not any(other.startswith(f"{path}.") for other in paths)]
    assert [leaf for leaf in leaves if not any(f"{leaf}.".startswith(f"{path}.") for path in explained)] == []


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.name)
def test_every_value_and_setting_has_a_description_in_the_schema(chart: Path) -> None:
    _, schema = load(chart)
    explained = {value.path for value in read_values((chart / "values.yaml").read_text())}
    nodes = dict(nodes_of_schema(schema, schema["definitions"]))
    settings = {path for path in nodes if re.search(r"(^|\.)config\.\w+\.\w+$", path)}
    assert bool(settings) == (chart == CHART)
    assert [path for path in sorted(explained | settings) if not nodes[path].get("description")] == []


def test_schemas_of_the_values_are_fresh(tmp_path: Path) -> None:
    run(sys.executable, "tools/chart.py", "values", tmp_path)
    for chart in CHARTS:
        fresh = (tmp_path / chart.relative_to(CHART) / "values.schema.json").read_text()
        assert fresh == (chart / "values.schema.json").read_text(), "run: tools/chart.py values"


def test_table_of_values_is_fresh(tmp_path: Path) -> None:
    run(sys.executable, "tools/chart.py", "table", tmp_path / "README.md")
    fresh = (tmp_path / "README.md").read_text()
    assert fresh == (CHART / "README.md").read_text(), "run: tools/chart.py table"


def test_plain_manifests_are_fresh(tmp_path: Path) -> None:
    run(sys.executable, "tools/chart.py", "manifests", tmp_path / "plain.yaml")
    fresh = (tmp_path / "plain.yaml").read_text()
    assert fresh == (ROOT / "k8s/hitcounter.yaml").read_text(), "run: tools/chart.py manifests"


def test_plain_manifests_need_no_helm() -> None:
    objects = list(yaml.safe_load_all((ROOT / "k8s/hitcounter.yaml").read_text()))
    rendered = [item for item in render(Case("")).objects if item["kind"] != "Pod"]
    assert len(objects) == len(rendered) + 1  # the namespace
    assert "helm" not in (ROOT / "k8s/hitcounter.yaml").read_text().lower().replace("without helm", "")


def test_subcharts_are_here_and_fetched_from_nowhere() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    found = {dependency["name"]: dependency for dependency in chart["dependencies"]}
    assert set(found) == set(STORES)
    for store in STORES:
        assert "repository" not in found[store]
        assert found[store]["condition"] == f"{store}.enabled"
        assert (
            found[store]["version"] == yaml.safe_load((CHART / "charts" / store / "Chart.yaml").read_text())["version"]
        )


def test_artifact_hub_gets_every_image_and_the_crd() -> None:
    annotations = yaml.safe_load((CHART / "Chart.yaml").read_text())["annotations"]
    named = {item["image"] for item in yaml.safe_load(annotations["artifacthub.io/images"])}
    rendering = render(Case("", {"image": {"registry": "ghcr.io/OWNER"}, "operator": {"enabled": True}}))
    assert named == {pod.containers[0]["image"] for pod in rendering.pods()}
    (crd,) = yaml.safe_load(annotations["artifacthub.io/crds"])
    (example,) = yaml.safe_load(annotations["artifacthub.io/crdsExamples"])
    assert find_faults(example, KUBERNETES) == []
    assert crd["kind"] == example["kind"]
    assert {change["kind"] for change in yaml.safe_load(annotations["artifacthub.io/changes"])} <= {
        *("added", "changed", "deprecated", "removed", "fixed", "security")
    }


def test_placeholder_of_the_owner_is_in_one_file_of_the_chart() -> None:
    files = [file.relative_to(CHART).as_posix() for file in CHART.rglob("*") if file.is_file()]
    assert [file for file in files if "OWNER" in (CHART / file).read_text()] == ["Chart.yaml"]


def test_each_template_makes_one_object() -> None:
    for file in sorted(CHART.rglob("templates/**/*.yaml")):
        assert len(re.findall(r"^kind: ", file.read_text(), re.MULTILINE)) <= 1, file


def test_memory_of_redis_leaves_room_for_rewriting_its_file() -> None:
    def maxmemory(limit: str, percent: int) -> int:
        values = {"redis": {"resources": {"limits": {"memory": limit}}, "maxmemoryPercent": percent}}
        (found,) = [item for item in render(Case("", values)).all("ConfigMap") if "redis.conf" in item["data"]]
        lines = dict(line.split(" ", 1) for line in found["data"]["redis.conf"].splitlines() if " " in line)
        assert lines["maxmemory-policy"] == "noeviction"
        assert lines["appendonly"] == "yes"
        return int(lines["maxmemory"])

    assert maxmemory("1Gi", 70) == int(2**30 * 0.7)
    assert maxmemory("1500M", 50) == 750_000_000
    assert maxmemory("0.5Gi", 50) == 2**28
    assert maxmemory("268435456", 50) == 2**27
