"""Writes the figure of docs/simulation.md from new runs.

    .venv/bin/python -m tools.simulator [FOLDER]

A test fails if the figure in docs/ differs.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from tools.simulator.figure import SHOWN_LOADS, draw_figure
from tools.simulator.loads import LOADS
from tools.simulator.runs import run

DOCS: Final = Path(__file__).parents[2] / "docs"
FIGURE: Final = "autoscaling.svg"


def main(argv: list[str]) -> None:
    """Run the loads of the figure, and draw it."""
    folder = Path(argv[0]) if argv else DOCS
    runs = {load.name: run(load) for load in LOADS if load.name in SHOWN_LOADS}
    (folder / FIGURE).write_text(draw_figure(runs))


if __name__ == "__main__":
    main(sys.argv[1:])
