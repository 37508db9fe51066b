"""Bars and lines as SVG: a minimal plotting library for a dozen plots. Pure and deterministic."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from math import ceil, floor, log10
from typing import Final

Numbers = Sequence[float | None]
"""One number for each label; None where there is none."""

_WIDTH: Final = 760
_HEIGHT: Final = 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 40, 76
_LEGEND_COLUMNS: Final = 2
_LEGEND_ROW: Final = 18
_STEPS: Final = (1.0, 2.0, 2.5, 5.0, 10.0)
_COLORS: Final = ("#1f6fb2", "#d9822b", "#3a9a5b", "#8a56ac", "#b23a48", "#5b6b7a", "#a3872f", "#2a8f9e")


@dataclass(frozen=True, slots=True)
class Axis:
    """The vertical axis: where its lines stand, and where a value is."""

    ticks: Sequence[float]
    is_log: bool

    def place(self, value: float) -> float:
        """Return the height of a value in pixels from the top."""
        scale: Callable[[float], float] = log10 if self.is_log else float
        low, high = scale(self.ticks[0]), scale(self.ticks[-1])
        share = (scale(max(value, self.ticks[0])) - low) / (high - low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _BOTTOM - _TOP)


def draw_lines(
    title: str, labels: Sequence[str], series: Mapping[str, Numbers], *, unit: str, is_log: bool = False
) -> str:
    """Return lines over labels that stand at equal distances; where a value is missing the line has a gap."""
    axis = build_axis(series, is_log=is_log)
    step = (_WIDTH - _LEFT - _RIGHT) / max(len(labels), 1)

    def lines() -> Iterator[str]:
        for color, values in zip(_COLORS, series.values(), strict=False):
            points = [
                None if value is None else (_LEFT + step * (label + 0.5), axis.place(value))
                for label, value in enumerate(values)
            ]
            for before, after in pairwise(points):
                if before and after:
                    ends = f'x1="{before[0]:.1f}" y1="{before[1]:.1f}" x2="{after[0]:.1f}" y2="{after[1]:.1f}"'
                    yield f'<line {ends} stroke="{color}" stroke-width="2"/>'
            yield from (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{color}"/>' for x, y in filter(None, points))

    return _frame(title, unit, axis, labels, series, lines())


def build_axis(series: Mapping[str, Numbers], *, is_log: bool) -> Axis:
    """Return an axis that holds all values: from 0 in round steps, or, for a logarithmic one, in powers of ten."""
    known = [value for values in series.values() for value in values if value is not None]
    if is_log:
        positive = [value for value in known if value > 0] or [1.0]
        low, high = floor(log10(min(positive))), ceil(log10(max(positive)))
        return Axis([10.0**power for power in range(low, max(high, low + 1) + 1)], is_log=True)
    highest = max(known, default=0.0) or 1.0
    unit = 10.0 ** floor(log10(highest / 5))
    step = next(step * unit for step in _STEPS if step * unit * 5 >= highest * (1 - 1e-9))
    return Axis([step * number for number in range(ceil(highest / step - 1e-9) + 1)], is_log=False)


def format_value(value: float) -> str:
    """Return a value as it is written beside a bar or a line of the axis: three digits, thousands apart."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _frame(
    title: str, unit: str, axis: Axis, labels: Sequence[str], series: Mapping[str, Numbers], marks: Iterator[str]
) -> str:
    step = (_WIDTH - _LEFT - _RIGHT) / max(len(labels), 1)
    rows = -(-len(series) // _LEGEND_COLUMNS)
    height = _HEIGHT + max(rows - 2, 0) * _LEGEND_ROW
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        _text(_WIDTH / 2, 20, title, size=15),
        _text(_LEFT - 8, _TOP - 12, unit, size=11, anchor="end"),
        *_draw_axis(axis),
        *marks,
        *(_text(_LEFT + step * (place + 0.5), _HEIGHT - _BOTTOM + 17, label) for place, label in enumerate(labels)),
        *_draw_legend(list(series)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _draw_axis(axis: Axis) -> Iterator[str]:
    for tick in axis.ticks:
        height = axis.place(tick)
        yield f'<line x1="{_LEFT}" y1="{height:.1f}" x2="{_WIDTH - _RIGHT}" y2="{height:.1f}" stroke="#dddddd"/>'
        yield _text(_LEFT - 8, height + 4, format_value(tick), anchor="end")


def _draw_legend(names: Sequence[str]) -> Iterator[str]:
    for place, (color, name) in enumerate(zip(_COLORS, names, strict=False)):
        row, column = divmod(place, _LEGEND_COLUMNS)
        left = _LEFT + column * (_WIDTH - _LEFT) / _LEGEND_COLUMNS
        top = _HEIGHT - _BOTTOM + 34 + row * _LEGEND_ROW
        yield f'<rect x="{left:.1f}" y="{top}" width="12" height="12" fill="{color}"/>'
        yield _text(left + 18, top + 10, name, size=12, anchor="start")


def _text(x: float, y: float, text: str, *, size: int = 11, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">{escape(text)}</text>'
