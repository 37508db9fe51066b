"""Loads: the hits that arrive each second, and the hits that Elasticsearch accepts. Pure and deterministic."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from math import exp, inf, pi, sin
from typing import Final

Curve = Callable[[int], float]
"""Hits per second at a second."""

QUIET: Final = 6_000.0
BUSY: Final = 120_000.0
NOISE: Final = 0.05
"""Standard deviation of the hits of one second, as a share of the curve."""


@dataclass(frozen=True, slots=True)
class Load:
    """One course of events."""

    name: str
    text: str
    """What happens, for people."""
    seconds: int
    curve: Curve
    ceiling: Curve = lambda _: inf
    """What Elasticsearch takes."""
    is_refusing: bool = True
    """Whether it sends back what is beyond the ceiling, or is only slow."""
    delay_seconds: int = 0
    """How much later than usual every number is known."""

    def draw_arrivals(self) -> list[float]:
        """Return the hits of each second: the curve with a noise that is the load's own."""
        noise = random.Random(self.name)  # noqa: S311 - it shapes a load, and guards nothing
        return [max(0.0, self.curve(second) * noise.gauss(1.0, NOISE)) for second in range(self.seconds)]


def _step(second: int) -> float:
    return BUSY if 300 <= second < 900 else QUIET


def _ramp(second: int) -> float:
    up, down = (second - 300) / 600, (1800 - second) / 600
    return QUIET + (200_000.0 - QUIET) * max(0.0, min(1.0, up, down))


def _oscillation(second: int) -> float:
    return 65_000.0 + 55_000.0 * sin(2 * pi * second / 120)


def _flash_crowd(second: int) -> float:
    return QUIET if second < 300 else QUIET + 400_000.0 * exp(-(second - 300) / 60)


def _day(second: int) -> float:
    return 60_000.0 - 54_000.0 * sin(2 * pi * (second / DAY_SECONDS + 0.15))


def _steady(_: int) -> float:
    return 60_000.0


def _scarce(_: int) -> float:
    return 80_000.0


def _outage(second: int) -> float:
    return 0.0 if 600 <= second < 900 else inf


DAY_SECONDS: Final = 4 * 3600
"""A day, run through in four hours."""

LOADS: Final = (
    Load("step", "6,000 hits/s, then 120,000 for 10 minutes, then 6,000 again", 2400, _step),
    Load("ramp", "up to 200,000 hits/s within 10 minutes, held for 5, and down again within 10", 3000, _ramp),
    Load("oscillation", "between 10,000 and 120,000 hits/s and back, every 2 minutes", 3600, _oscillation),
    Load("flash crowd", "from 6,000 to 400,000 hits/s at once, halved every 42 s", 2400, _flash_crowd),
    Load("day", "between 6,000 and 114,000 hits/s, a day in four hours", DAY_SECONDS, _day),
    Load("refusing", "the step; Elasticsearch takes 80,000 hits/s and sends back the rest", 3600, _step, _scarce),
    Load("slow", "the step; Elasticsearch takes 80,000 hits/s and is only slow", 3600, _step, _scarce, False),
    Load("outage", "60,000 hits/s; Elasticsearch is away for 5 minutes", 2400, _steady, _outage),
    Load("late numbers", "the step; every number is known 30 s later", 2400, _step, delay_seconds=30),
)
