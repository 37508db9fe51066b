"""Writes the tables and the figure of docs/simulation.md from new runs.

    .venv/bin/python -m tools.simulator [FOLDER]

It reads the document from docs/ and writes it to FOLDER (default: docs/). Text around the tables is not changed. A test
fails if the document differs.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

from tools.simulator.figure import draw_figure
from tools.simulator.loads import LOADS
from tools.simulator.report import build_tables
from tools.simulator.runs import run
from tools.simulator.scalers import SCALERS, SETTINGS, Operator

DOCS: Final = Path(__file__).parents[2] / "docs"
DOCUMENT: Final = "simulation.md"
FIGURE: Final = "autoscaling.svg"
TUNED_LOADS: Final = ("step", "oscillation", "day")
"""Those on which the operator's settings are tried."""
_PLACE: Final = re.compile(r"(<!-- simulator: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main(argv: list[str]) -> None:
    """Run every scaler on every load, and write what came of it."""
    folder = Path(argv[0]) if argv else DOCS
    runs = {load.name: {name: run(load, create()) for name, create in SCALERS.items()} for load in LOADS}
    settings = {
        name: {load.name: run(load, Operator(policy)) for load in LOADS if load.name in TUNED_LOADS}
        for name, policy in SETTINGS.items()
    }
    tables = build_tables(runs, settings)
    text = (DOCS / DOCUMENT).read_text()
    (folder / DOCUMENT).write_text(_PLACE.sub(lambda place: f"{place[1]}{tables[place[2]]}\n{place[3]}", text))
    (folder / FIGURE).write_text(draw_figure(runs))


if __name__ == "__main__":
    main(sys.argv[1:])
