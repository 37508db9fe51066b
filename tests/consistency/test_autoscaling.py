"""The documents about scaling show what the code does: the simulator's tables, the worked example, the defaults."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml
from hitcounter.ledger import Ledger, StreamStatus
from hitcounter.scaling import Memory, Policy, Sample, explain, recommend
from hitcounter_operator.resource import ScalingSpec

from tests.consistency.workspace import ROOT, run
from tools.simulator.hpa import Behavior, Rule
from tools.simulator.scalers import CHART, SCRAPE_SECONDS

DOCUMENT = ROOT / "docs/autoscaling.md"


def test_tables_and_figure_are_those_of_the_simulator(tmp_path: Path) -> None:
    run(sys.executable, "-m", "tools.simulator", tmp_path)
    for name in ("simulation.md", "autoscaling.svg"):
        assert (ROOT / "docs" / name).read_text() == (tmp_path / name).read_text(), "run: make generate"


def test_worked_example_is_what_the_operator_says() -> None:
    earlier, later = (
        Sample(StreamStatus(Ledger(accepted, indexed), 0, None, None, now_ms), now_ms / 1000)
        for accepted, indexed, now_ms in [(810_000, 0, 0), (950_000, 50_000, 5000)]
    )
    first = recommend(earlier, Memory(), Policy())
    assert f"    {explain(recommend(later, first.memory, Policy()))}\n" in DOCUMENT.read_text()


def test_defaults_are_those_of_the_chart() -> None:
    policy, spec = Policy(), ScalingSpec()
    values = yaml.safe_load((ROOT / "charts/hitcounter/values.yaml").read_text())["autoscaling"]
    assert values["minReplicas"] == spec.min_replicas
    assert values["maxReplicas"] == spec.max_replicas
    assert values["formula"] == {
        "targetUtilization": policy.target_utilization,
        "drainTargetSeconds": policy.drain_target_seconds,
        "startSeconds": policy.start_seconds,
        "hitsPerBusySecond": policy.hits_per_busy_second,
    }


def read_rules(policies: list[dict[str, Any]]) -> list[Rule]:
    """Return the policies of a HorizontalPodAutoscaler as the simulator has them."""
    return [
        Rule(policy["periodSeconds"], percent=policy["value"])
        if policy["type"] == "Percent"
        else Rule(policy["periodSeconds"], pods=policy["value"])
        for policy in policies
    ]


def test_simulated_autoscaler_is_told_what_the_chart_tells_it() -> None:
    values = yaml.safe_load((ROOT / "charts/hitcounter/values.yaml").read_text())
    behavior = values["autoscaling"]["behavior"]
    up, down = behavior["scaleUp"], behavior["scaleDown"]
    assert (up["stabilizationWindowSeconds"], up["selectPolicy"], down["selectPolicy"]) == (0, "Max", "Max")
    told = Behavior(read_rules(up["policies"]), read_rules(down["policies"]), down["stabilizationWindowSeconds"])
    assert told == CHART
    assert values["monitoring"]["podMonitors"]["interval"] == f"{SCRAPE_SECONDS}s"
