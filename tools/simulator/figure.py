"""The figure of docs/simulation.md: indexers and backlog over time, as SVG. Pure and deterministic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from tools.simulator.runs import COURSE_SECONDS, Run
from tools.simulator.svg import build_axis, format_value

SHOWN_LOADS: Final = ("step", "ramp", "oscillation")
COLOR: Final = "#1f6fb2"
SHOWN_SECONDS: Final = 1800

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


def draw_figure(runs: Mapping[str, Run]) -> str:
    """Return the figure: a column for each load, indexers above and backlog below."""
    width = _LEFT + len(SHOWN_LOADS) * (_WIDTH + _GAP)
    height = _TOP + 2 * (_HEIGHT + _GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for column, load in enumerate(SHOWN_LOADS):
        left = _LEFT + column * (_WIDTH + _GAP)
        parts.append(_text(left + _WIDTH / 2, _TOP - 10, load, size=14))
        parts += _draw_panel(left, _TOP, "indexers", runs[load].replicas)
        parts += _draw_panel(left, _TOP + _HEIGHT + _GAP, "million hits of backlog", runs[load].backlog)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _draw_panel(left: float, top: float, unit: str, course: Sequence[float]) -> Iterator[str]:
    ticks = build_axis({"": course}, is_log=False).ticks
    panel = Panel(left, top, ticks[-1])
    scale = 1e6 if unit.startswith("million") else 1.0
    for tick in ticks:
        y = panel.top + _HEIGHT * (1 - tick / panel.most)
        yield f'<line x1="{panel.left}" y1="{y:.1f}" x2="{panel.left + _WIDTH}" y2="{y:.1f}" stroke="#dddddd"/>'
        yield _text(panel.left - 6, y + 4, format_value(tick / scale), anchor="end")
    for minutes in range(0, SHOWN_SECONDS // 60 + 1, 10):
        x = panel.left + _WIDTH * minutes * 60 / SHOWN_SECONDS
        yield _text(x, panel.top + _HEIGHT + 15, f"{minutes} min" if minutes else "0")
    yield _text(panel.left - 30, panel.top - 10, unit, anchor="start")
    points = " ".join(panel.place(at, value) for at, value in enumerate(course[: SHOWN_SECONDS // COURSE_SECONDS + 1]))
    yield f'<polyline points="{points}" fill="none" stroke="{COLOR}" stroke-width="1.8"/>'


def _text(x: float, y: float, text: str, *, size: int = 11, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">{escape(text)}</text>'
