"""The figure of docs/simulation.md: indexers and backlog over time, as SVG. Pure and deterministic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from tools.simulator.report import Runs
from tools.simulator.runs import COURSE_SECONDS
from tools.simulator.svg import build_axis, format_value

SHOWN_LOADS: Final = ("step", "ramp", "oscillation")
SHOWN_SCALERS: Final = {
    "operator": "#1f6fb2",
    "KEDA, the formula": "#3a9a5b",
    "KEDA, backlog (30 s)": "#d9822b",
    "KEDA, stream length": "#b23a48",
}
"""Scalers by color; with all of them nobody would see anything."""
SHOWN_SECONDS: Final = 1800
BACKLOG_MOST: Final = 8e6
"""Hits at which the drawing of backlogs ends: one that runs away would press the others flat."""

_WIDTH, _HEIGHT = 300, 170
_LEFT, _TOP, _GAP = 46, 66, 46


@dataclass(frozen=True, slots=True)
class Panel:
    """One square of the figure, by its upper left corner."""

    left: float
    top: float
    most: float
    """The value at its upper edge."""

    def place(self, index: int, value: float) -> str:
        """Return the point of a course."""
        x = self.left + _WIDTH * index * COURSE_SECONDS / SHOWN_SECONDS
        y = self.top + _HEIGHT * (1 - min(value, self.most) / self.most)
        return f"{x:.1f},{y:.1f}"


def draw_figure(runs: Runs) -> str:
    """Return the figure: a column for each load, indexers above and backlog below."""
    width = _LEFT + len(SHOWN_LOADS) * (_WIDTH + _GAP)
    height = _TOP + 2 * (_HEIGHT + _GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        *_draw_legend(),
    ]
    for column, load in enumerate(SHOWN_LOADS):
        left = _LEFT + column * (_WIDTH + _GAP)
        parts.append(_text(left + _WIDTH / 2, _TOP - 10, load, size=14))
        indexers = {name: runs[load][name].replicas for name in SHOWN_SCALERS}
        backlogs = {name: runs[load][name].backlog for name in SHOWN_SCALERS}
        most = build_axis(indexers, is_log=False).ticks[-1]
        parts += _draw_panel(Panel(left, _TOP, most), "indexers", indexers)
        parts += _draw_panel(Panel(left, _TOP + _HEIGHT + _GAP, BACKLOG_MOST), "million hits of backlog", backlogs)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _draw_panel(panel: Panel, unit: str, courses: Mapping[str, Sequence[float]]) -> Iterator[str]:
    scale = 1e6 if panel.most >= 1e6 else 1.0
    for tick in build_axis({"": [panel.most]}, is_log=False).ticks:
        y = panel.top + _HEIGHT * (1 - tick / panel.most)
        yield f'<line x1="{panel.left}" y1="{y:.1f}" x2="{panel.left + _WIDTH}" y2="{y:.1f}" stroke="#dddddd"/>'
        yield _text(panel.left - 6, y + 4, format_value(tick / scale), anchor="end")
    for minutes in range(0, SHOWN_SECONDS // 60 + 1, 10):
        x = panel.left + _WIDTH * minutes * 60 / SHOWN_SECONDS
        yield _text(x, panel.top + _HEIGHT + 15, f"{minutes} min" if minutes else "0")
    yield _text(panel.left - 30, panel.top - 10, unit, anchor="start")
    for name, course in reversed(list(courses.items())):
        shown = course[: SHOWN_SECONDS // COURSE_SECONDS + 1]
        points = " ".join(panel.place(index, value) for index, value in enumerate(shown))
        yield f'<polyline points="{points}" fill="none" stroke="{SHOWN_SCALERS[name]}" stroke-width="1.8"/>'


def _draw_legend() -> Iterator[str]:
    for place, (name, color) in enumerate(SHOWN_SCALERS.items()):
        left = _LEFT + place * 190
        yield f'<rect x="{left}" y="14" width="12" height="12" fill="{color}"/>'
        yield _text(left + 18, 24, name, size=12, anchor="start")


def _text(x: float, y: float, text: str, *, size: int = 11, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">{escape(text)}</text>'
