"""Each finding of kube-score is fixed, or listed with its reason in the chart's README."""

from __future__ import annotations

import json
import re
import subprocess
from collections import defaultdict
from typing import Any

from tests.chart.rendering import CHART, Case, Rendering, component_of, find_tool, render_all

OK = 10
PRODUCTION = ("charts/hitcounter/values-production.yaml",)
PARTS = {"api", "indexer", "operator", "test", "redis", "elasticsearch"}


def find_findings(rendering: Rendering) -> dict[str, set[str]]:
    """Return the components that kube-score has something against, by check."""
    command = [find_tool("kube-score"), "score", "--kubernetes-version", "v1.34", "--output-format", "json", "-"]
    answer = subprocess.run(command, input=rendering.text, capture_output=True, text=True, check=False)
    found: dict[str, set[str]] = defaultdict(set)
    scored: list[dict[str, Any]] = json.loads(answer.stdout)
    for item in scored:
        for check in item["checks"]:
            if not check["skipped"] and check["grade"] < OK:
                found[check["check"]["id"]].add(component_of({"metadata": item["object_meta"]}))
    return found


def read_explained() -> dict[str, set[str]]:
    """Return the components that the table in the README names, by check."""
    _, section = (CHART / "README.md").read_text().split("| finding | in | ")
    rows = re.findall(r"^\| `([a-z-]+)` \| ([a-z, ]+) \| \S.+ \|$", section.split("\n## ")[0], re.MULTILINE)
    return {check: PARTS if parts == "all" else set(parts.split(", ")) for check, parts in rows}


def test_every_finding_is_explained_and_every_explanation_still_needed() -> None:
    found: dict[str, set[str]] = defaultdict(set)
    with_operator = Case("operator", {"operator": {"enabled": True}})
    for rendering in render_all([Case("defaults"), Case("production", files=PRODUCTION), with_operator]):
        for check, parts in find_findings(rendering).items():
            found[check] |= parts
    assert found == read_explained()


def test_strict_clusters_have_their_limits() -> None:
    restricted = "charts/hitcounter/values-restricted.yaml"
    limits = {"container-resources", "container-ephemeral-storage-request-and-limit"}
    for rendering in render_all([Case("", files=(restricted,)), Case("", files=(*PRODUCTION, restricted))]):
        assert not limits & find_findings(rendering).keys()
