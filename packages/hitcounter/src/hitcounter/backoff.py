"""Exponential backoff with jitter: how long to wait before a retry."""

from __future__ import annotations

import random


def backoff_seconds(attempt: int, *, first_seconds: float = 0.1, max_seconds: float = 5.0) -> float:
    """Return the wait after an attempt (numbered from 0): between half of a doubling limit and all of it, at random."""
    bound = min(max_seconds, first_seconds * 2.0 ** min(attempt, 30))
    return bound / 2 + random.uniform(0, bound / 2)  # noqa: S311 - spreads load, guards nothing
