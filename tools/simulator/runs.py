"""Runs the scaler with one load, and returns the result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from tools.simulator.loads import Load
from tools.simulator.plant import Plant
from tools.simulator.scaler import Scaler

COURSE_SECONDS: Final = 10
"""Distance of the points that are kept to be drawn."""


@dataclass(frozen=True, slots=True)
class Run:
    """What the scaler did with one load."""

    peak_backlog_hits: float
    p99_wait_seconds: int
    """99 of 100 hits waited no longer; 0 for less than a second."""
    pod_minutes: float
    """Of pods asked for, while they start as well."""
    reversals: int
    """How often it turned from up to down or back."""
    replicas: Sequence[int]
    """Its course, every ten seconds."""
    backlog: Sequence[float]


def run(load: Load) -> Run:
    """Let the scaler go through a load."""
    plant, scaler = Plant(load), Scaler()
    asked: list[int] = []
    for _ in range(load.seconds):
        wanted = scaler.look(plant)
        if wanted is not None:
            plant.scale_to(wanted)
        asked.append(plant.replicas)
        plant.step()
    plant.finish()
    backlog = [sample.backlog for sample in plant.history]
    return Run(
        peak_backlog_hits=max(backlog),
        p99_wait_seconds=find_quantile(plant.waits, 0.99),
        pod_minutes=sum(asked) / 60,
        reversals=count_reversals(asked),
        replicas=asked[::COURSE_SECONDS],
        backlog=backlog[1::COURSE_SECONDS],
    )


def find_quantile(waits: Mapping[int, float], share: float) -> int:
    """Return the wait that the given share of all hits did not exceed."""
    left = share * sum(waits.values())
    for wait in sorted(waits):
        left -= waits[wait]
        if left <= 0:
            return wait
    return max(waits, default=0)


def count_reversals(numbers: Sequence[int]) -> int:
    """Return how often a course turns round."""
    return sum(before != after for before, after in pairwise(_find_directions(numbers)))


def _find_directions(numbers: Sequence[int]) -> Iterator[bool]:
    return (after > before for before, after in pairwise(numbers) if after != before)
