"""How long to wait before doing the same again: longer each time, bounded, never in step with others."""

from __future__ import annotations

import random


def backoff_seconds(attempt: int, *, first_seconds: float = 0.1, most_seconds: float = 5.0) -> float:
    """Return the wait after the attempt of that number, from 0: half of a doubling bound, the other half drawn."""
    bound = min(most_seconds, first_seconds * 2.0 ** min(attempt, 30))
    return bound / 2 + random.uniform(0, bound / 2)  # noqa: S311 - spreads load, guards nothing
