"""The tables of docs/simulation.md, generated from the runs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from hitcounter_benchmark.tables import Table

from tools.simulator.loads import LOADS
from tools.simulator.runs import Run

Runs = Mapping[str, Mapping[str, Run]]
"""By load, then by scaler (or by setting, then by load), in the order of the tables."""

OURS: Final = "operator"


def build_tables(runs: Runs, settings: Runs) -> dict[str, str]:
    """Return the tables in Markdown by their names; settings are runs of the operator, by what was turned and load."""
    figures = {
        "settings": _build_settings(settings),
        "waits": _build_measure(runs, _show_wait),
        "pods": _build_measure(runs, lambda run: f"{run.pod_minutes:,.0f}"),
        "backlogs": _build_measure(runs, lambda run: f"{run.peak_backlog_hits / 1000:,.0f} k"),
        "reversals": _build_measure(runs, lambda run: f"{run.reversals:,}"),
    }
    texts: dict[str, Table] = {
        "loads": [["load", "what happens"], *([load.name, load.text] for load in LOADS)],
        "verdict": [
            ["load", "operator", "the best of the others", "the operator's wait"],
            *(_build_verdict(load, of_load) for load, of_load in runs.items()),
        ],
    }
    return {
        **{name: render_markdown(table) for name, table in figures.items()},
        **{name: render_markdown(table).replace(" --: ", " --- ") for name, table in texts.items()},
    }


def is_at_least_as_good(ours: Run, other: Run) -> bool:
    """Tell whether ours made nobody wait longer, and took no more pods for it."""
    return ours.p99_wait_seconds <= other.p99_wait_seconds and round(ours.pod_minutes) <= round(other.pod_minutes)


def find_best(runs: Mapping[str, Run]) -> str:
    """Return the name of the scaler with the shortest wait, and of several the one with the fewest pod-minutes."""
    return min(runs, key=lambda name: (runs[name].p99_wait_seconds, runs[name].pod_minutes))


def _build_measure(runs: Runs, show: Callable[[Run], str]) -> Table:
    scalers = list(next(iter(runs.values())))
    return [["load", *scalers], *([load, *(show(run) for run in of_load.values())] for load, of_load in runs.items())]


def _build_settings(settings: Runs) -> Table:
    loads = list(next(iter(settings.values())))
    return [
        ["the operator with", *loads],
        *([name, *(f"{_show(run)}, {run.reversals:,}" for run in runs.values())] for name, runs in settings.items()),
    ]


def _build_verdict(load: str, runs: Mapping[str, Run]) -> list[str]:
    others = {name: run for name, run in runs.items() if name != OURS}
    best = find_best(others)
    ours, other = runs[OURS], others[best]
    return [load, _show(ours), f"{best}: {_show(other)}", ", ".join(_compare(ours, other))]


def _show(run: Run) -> str:
    return f"{_show_wait(run)}, {run.pod_minutes:,.0f}"


def _show_wait(run: Run) -> str:
    return f"{run.p99_wait_seconds:,} s" if run.p99_wait_seconds else "< 1 s"


def _compare(ours: Run, other: Run) -> Iterator[str]:
    waits = ours.p99_wait_seconds - other.p99_wait_seconds
    pods = round(ours.pod_minutes) / round(other.pod_minutes) - 1
    yield f"is {abs(waits):,} s {'longer' if waits > 0 else 'shorter'}" if waits else "is as short"
    yield f"{abs(pods):.0%} {'more' if pods > 0 else 'fewer'} pods" if abs(pods) >= 0.005 else "as many pods"


def render_markdown(table: Table) -> str:
    """Return the table in Markdown."""
    head, *rows = table
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))
