"""The samples fit the chart, and each other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.promtool import Sample, assert_query
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


@pytest.mark.parametrize(
    ("name", "group_by", "series", "expected"),
    [
        (
            "hitcounter_indexers_wanted",
            "release",
            {
                'hitcounter_indexers_wanted{namespace="n",release="hc",pod="a"}': "3x40",
                'hitcounter_indexers_wanted{namespace="n",release="hc",pod="b"}': "3x40",
                'hitcounter_indexers_wanted{namespace="n",release="other",pod="a"}': "7x40",
            },
            [Sample('{release="hc"}', 3)],
        ),
        (
            "hitcounter_track_requests_per_second",
            "pod",
            {
                'hitcounter_track_duration_seconds_count{namespace="n",release="hc",pod="a"}': "0+1500x40",
                'hitcounter_track_duration_seconds_count{namespace="n",release="hc",pod="b"}': "0+3000x40",
            },
            [Sample('{pod="a"}', 100), Sample('{pod="b"}', 200)],
        ),
    ],
)
def test_adapter_serves_one_number_for_each_release_or_pod(
    tmp_path: Path, name: str, group_by: str, series: dict[str, str], expected: list[Sample]
) -> None:
    (rule,) = [rules[name] for rules in SERVED.values() if name in rules]
    # The way the adapter fills in its template.
    words = {"Series": rule["seriesQuery"].partition("{")[0], "GroupBy": group_by}
    words["LabelMatchers"] = 'namespace="n",release="hc"'
    query = re.sub(r"<<\.(\w+)>>", lambda word: words[word[1]], rule["metricsQuery"])
    assert_query(tmp_path, query, series, expected, at="5m")


def test_adapter_reads_only_metrics_that_the_code_declares() -> None:
    declared = {series.name for series in read_metrics("api")}
    for rules in SERVED.values():
        for rule in rules.values():
            assert rule["seriesQuery"].partition("{")[0].removesuffix("_count") in declared
