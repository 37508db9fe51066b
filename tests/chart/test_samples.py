"""The samples fit the chart, and each other."""

from __future__ import annotations

from typing import Any

import yaml

from tests.chart.rendering import ROOT, Manifest, Rendering
from tools.docgen import read_metrics

ADAPTER: dict[str, Any] = yaml.safe_load((ROOT / "k8s/samples/prometheus-adapter.yaml").read_text())["rules"]
SERVED = {kind: {rule["name"]["as"]: rule for rule in ADAPTER.get(kind, [])} for kind in ("custom", "external")}


def metrics_of(renderings: list[Rendering]) -> list[Manifest]:
    return [
        metric
        for rendering in renderings
        if any("k8s/samples" in file for file in rendering.case.files)
        for scaler in rendering.all("HorizontalPodAutoscaler")
        for metric in scaler["spec"]["metrics"]
    ]


def test_sample_for_the_adapter_serves_what_the_other_samples_ask_for(renderings: list[Rendering]) -> None:
    asked = {
        kind: {metric[field]["metric"]["name"] for metric in metrics_of(renderings) if field in metric}
        for kind, field in {"custom": "pods", "external": "external"}.items()
    }
    assert asked == {kind: set(rules) for kind, rules in SERVED.items()}


def test_adapter_reads_only_metrics_that_the_code_declares() -> None:
    declared = {series.name for series in read_metrics("api")}
    for rules in SERVED.values():
        for rule in rules.values():
            assert rule["seriesQuery"].partition("{")[0].removesuffix("_count") in declared
