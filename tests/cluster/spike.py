"""A spike as one watches it: rate, backlog and indexers, once a second, until all is as it was."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from tests.cluster.installation import Installation
from tests.cluster.load import Load
from tools.simulator.svg import build_axis, format_value

_LOOK_SECONDS: Final = 1.0
_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP = 620, 110, 64, 34, 30
_COLOR: Final = "#1f6fb2"


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen at one moment, so many seconds after the first hit."""

    seconds: float
    acknowledged: int
    backlog: int
    ready: int
    wanted: int


class Watch:
    """Looks once a second, on a thread of its own; a context manager.

    Attributes:
        looks: what was seen so far.
    """

    def __init__(self, installation: Installation, load: Load, deployment: str) -> None:
        self._installation = installation
        self._api = installation.api
        self._load = load
        self._deployment = deployment
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch")
        self.looks: list[Look] = []

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def wait_until(self, is_enough: Callable[[Look], bool], timeout_seconds: float) -> Look:
        """Return the first look from now on that is enough.

        Raises:
            TimeoutError: there was none in time.
        """
        deadline, seen = time.monotonic() + timeout_seconds, len(self.looks)
        while time.monotonic() < deadline:
            for look in self.looks[seen:]:
                if is_enough(look):
                    return look
            seen = len(self.looks)
            time.sleep(0.2)
        raise TimeoutError(f"not seen within {timeout_seconds} s; last: {self.looks[-3:]}")

    def _run(self) -> None:
        while not self._stop.wait(_LOOK_SECONDS):
            deployment = json.loads(self._installation.kubectl("get", self._deployment, "--output=json"))
            self.looks.append(
                Look(
                    time.monotonic() - self._load.begun,
                    self._load.acknowledged,
                    self._api.status()["backlog"],
                    deployment["status"].get("readyReplicas", 0),
                    deployment["spec"]["replicas"],
                )
            )


@dataclass(frozen=True, slots=True)
class Figures:
    """What a spike cost."""

    most_indexers: int
    peak_backlog: int
    drained_seconds: float
    """From the end of the spike until nothing waited that arrived before."""
    pod_minutes: float
    track_p90_ms: float
    """Of the hits of the spike, from when each was meant to leave."""


def measure(looks: Sequence[Look], load: Load, begin: float, end: float) -> Figures:
    """Return the figures of a spike that lasted from `begin` to `end`, in seconds after the first hit."""
    quiet = max((look.backlog for look in looks if look.seconds < begin), default=0)
    drained = next(look.seconds for look in looks if look.seconds > end and look.backlog <= quiet)
    lasted = pairwise(looks)
    times, latencies = load.client.latencies
    during = sorted(latency for at, latency in zip(times, latencies, strict=True) if begin <= at < end)
    return Figures(
        most_indexers=max(look.ready for look in looks),
        peak_backlog=max(look.backlog for look in looks),
        drained_seconds=drained - end,
        pod_minutes=sum(look.ready * (after.seconds - look.seconds) for look, after in lasted) / 60,
        track_p90_ms=during[int(0.9 * len(during))] * 1000,
    )


def draw(title: str, looks: Sequence[Look]) -> str:
    """Return rate, backlog and indexers over time as SVG, one above the other."""
    rates = [
        (after.acknowledged - look.acknowledged) / (after.seconds - look.seconds) for look, after in pairwise(looks)
    ]
    panels = {
        "hits acknowledged per second": [*rates, rates[-1]],
        "backlog, in hits": [float(look.backlog) for look in looks],
        "indexers ready": [float(look.ready) for look in looks],
    }
    width = _LEFT + _WIDTH + 20
    height = _TOP + len(panels) * (_HEIGHT + _GAP) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        _text(_LEFT, 16, title, size=14, anchor="start"),
    ]
    seconds = [look.seconds for look in looks]
    for number, (name, values) in enumerate(panels.items()):
        parts += _draw_panel(_TOP + number * (_HEIGHT + _GAP), name, seconds, values)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _draw_panel(top: float, name: str, seconds: Sequence[float], values: Sequence[float]) -> Iterator[str]:
    ticks = build_axis({"": list(values)}, is_log=False).ticks
    yield _text(_LEFT, top + 12, name, anchor="start")
    top += 18
    height = _HEIGHT - 18
    for tick in ticks:
        y = top + height * (1 - tick / ticks[-1])
        yield f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_LEFT + _WIDTH}" y2="{y:.1f}" stroke="#dddddd"/>'
        yield _text(_LEFT - 6, y + 4, format_value(tick), anchor="end")
    points = " ".join(
        f"{_LEFT + _WIDTH * at / seconds[-1]:.1f},{top + height * (1 - value / ticks[-1]):.1f}"
        for at, value in zip(seconds, values, strict=True)
    )
    yield f'<polyline points="{points}" fill="none" stroke="{_COLOR}" stroke-width="1.8"/>'
    for minute in range(int(seconds[-1]) // 60 + 1):
        x = _LEFT + _WIDTH * minute * 60 / seconds[-1]
        yield _text(x, top + height + 15, f"{minute} min" if minute else "0")


def _text(x: float, y: float, text: str, *, size: int = 11, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">{text}</text>'
