"""Simulates a Kubernetes HorizontalPodAutoscaler: every 15 seconds, tolerance, stabilization windows, policies.

The rules are those of the autoscaling/v2 API: within the tolerance nothing changes; scaling down uses the highest
number within the window; policies limit the change within their period, and of several policies the one that allows
most applies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil, floor
from typing import Final

SYNC_SECONDS: Final = 15
TOLERANCE: Final = 0.1


@dataclass(frozen=True, slots=True)
class Rule:
    """One policy: a change by so many percent, or so many pods, within the period."""

    period_seconds: int
    percent: float = 0.0
    pods: int = 0


@dataclass(frozen=True, slots=True)
class Behavior:
    """`behavior` of the autoscaler. None of our configurations has a stabilization window for scaling up."""

    up: Sequence[Rule]
    down: Sequence[Rule]
    down_window_seconds: int


KUBERNETES: Final = Behavior([Rule(15, percent=100), Rule(15, pods=4)], [Rule(15, percent=100)], 300)
"""What Kubernetes does unless told otherwise."""


@dataclass
class HorizontalPodAutoscaler:
    """One autoscaler, with what it remembers."""

    behavior: Behavior
    min_replicas: int
    max_replicas: int
    _wanted: list[tuple[int, int]] = field(default_factory=list)
    _changes: list[tuple[int, int]] = field(default_factory=list)

    def scale(self, second: int, current: int, wanted: int) -> int:
        """Return the number of pods it goes to."""
        self._wanted = [one for one in self._wanted if one[0] > second - self.behavior.down_window_seconds]
        self._wanted.append((second, wanted))
        highest = max(number for _, number in self._wanted)
        goal = wanted if wanted > current else min(current, highest)
        goal = max(self.min_replicas, min(self.max_replicas, goal))
        if goal > current:
            goal = min(goal, max(self._bound_up(rule, second, current) for rule in self.behavior.up))
        elif goal < current:
            goal = max(goal, min(self._bound_down(rule, second, current) for rule in self.behavior.down))
        if goal != current:
            self._changes.append((second, goal - current))
        return goal

    def _bound_up(self, rule: Rule, second: int, current: int) -> int:
        start = current - self._changed(rule, second)
        return max(current, ceil(start * (1 + rule.percent / 100)) if rule.percent else start + rule.pods)

    def _bound_down(self, rule: Rule, second: int, current: int) -> int:
        start = current - self._changed(rule, second)
        return min(current, floor(start * (1 - rule.percent / 100)) if rule.percent else start - rule.pods)

    def _changed(self, rule: Rule, second: int) -> int:
        return sum(change for at, change in self._changes if at > second - rule.period_seconds)


def is_tolerable(ratio: float) -> bool:
    """Tell whether a metric is so close to its target that nothing is to be done."""
    return abs(ratio - 1.0) <= TOLERANCE
