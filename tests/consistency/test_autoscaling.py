"""The documents about scaling show what the code does: the simulator's figure, the worked example, the defaults."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml
from hitcounter.ledger import Ledger, StreamStatus
from hitcounter.scaling import Memory, Policy, Sample, explain, recommend
from hitcounter_operator.resource import ScalingSpec

from tests.consistency.workspace import ROOT, run

DOCUMENT = ROOT / "docs/autoscaling.md"


def test_figure_is_that_of_the_simulator(tmp_path: Path) -> None:
    run(sys.executable, "-m", "tools.simulator", tmp_path)
    figure = "autoscaling.svg"
    assert (ROOT / "docs" / figure).read_text() == (tmp_path / figure).read_text(), "run: make generate"


def test_worked_example_is_what_the_formula_says() -> None:
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
