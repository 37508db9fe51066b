"""The hits of a run, drawn from its seed: without a key, with a UUIDv7, with any key and a time; some at odd times."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime
from itertools import accumulate, count
from typing import Final
from uuid import UUID

from hitcounter.hits import DAY_MS, MINUTE_MS

from tests.chaos.record import TrackedHit

_IDS_OF_EACH_KIND: Final = 60
_KEYED_SHARE: Final = 0.4
_OLDEST_MS: Final = 2 * DAY_MS - 10 * MINUTE_MS
"""How far back hits with a key reach: far enough that they fall into several indices, near enough to be counted."""


class HitMaker:
    """Makes one hit after another; the ids are skewed, so that hot ones share a millisecond of a batch.

    Args:
        seed: draws them.
        prefix: begins each id, where several runs count on the same stores.
    """

    def __init__(self, seed: int, prefix: str = "") -> None:
        self._prefix = prefix
        self._draw = random.Random(seed)
        self._numbers = range(_IDS_OF_EACH_KIND)
        self._skew = list(accumulate(1 / (number + 1) for number in self._numbers))
        self._count = count()

    def make(self) -> TrackedHit:
        """Return a hit that was never sent."""
        number = self._draw.choices(self._numbers, cum_weights=self._skew)[0]
        if self._draw.random() >= _KEYED_SHARE:
            return TrackedHit(f"{self._prefix}plain/{number}")
        time_ms = time.time_ns() // 1_000_000
        if self._draw.random() < 0.5:
            time_ms -= self._draw.randrange(_OLDEST_MS)
        if self._draw.random() < 0.5:
            return TrackedHit(f"{self._prefix}uuid/{number}", key=build_uuid7(self._draw, time_ms))
        timestamp = datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")
        return TrackedHit(f"{self._prefix}stamped/{number}", key=f"order-{next(self._count)}", timestamp=timestamp)


def build_uuid7(draw: random.Random, time_ms: int) -> str:
    """Return a UUIDv7 of that time (RFC 9562)."""
    return str(UUID(int=time_ms << 80 | 0x7 << 76 | draw.getrandbits(12) << 64 | 0x2 << 62 | draw.getrandbits(62)))
