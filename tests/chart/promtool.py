"""Lets the real Prometheus evaluate a query over series."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from tests.chart.rendering import find_tool


class Sample(NamedTuple):
    """A sample of an answer: its labels as PromQL has them, and its value."""

    labels: str
    value: float


def assert_query(
    folder: Path, query: str, series: Mapping[str, str], expected: Sequence[Sample], at: str = "0m"
) -> None:
    """Check the answer to a query over series with one value each 15 seconds, in promtool's notation."""
    test = {
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "15s",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": [
                    {"expr": query, "eval_time": at, "exp_samples": [sample._asdict() for sample in expected]}
                ],
            }
        ],
    }
    file = folder / "test.yaml"
    file.write_text(yaml.safe_dump(test))
    answer = subprocess.run([find_tool("promtool"), "test", "rules", file], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
