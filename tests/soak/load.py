"""The load of a soak: hits of now, and one in a thousand of yesterday, at a rate that the machine can bear."""

from __future__ import annotations

import random
import time
from array import array
from bisect import bisect_left
from datetime import UTC, datetime
from itertools import accumulate
from typing import Final

from hitcounter.hits import DAY_MS

from tests.chaos.hits import build_uuid7
from tests.chaos.record import Record, TrackedHit

LATE_SHARE: Final = 0.001
_KEYED_SHARE: Final = 0.2
_IDS_OF_EACH_KIND: Final = 100
_LATE_IDS: Final = 10
_LATE: Final = "late/"


class Tempo:
    """An open loop (see hitcounter_benchmark.schedule) whose rate may be changed from another thread."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._next_ns = 0
        self._is_stopped = False

    def stop(self) -> None:
        """Let nothing be due any more."""
        self._is_stopped = True

    def take(self, now_ns: int) -> int | None:
        """Claim the oldest send that is due."""
        due_ns = self._next_ns
        if due_ns > now_ns or self._is_stopped:
            return None
        self._next_ns = due_ns + int(1e9 / self.rate)
        return due_ns

    def is_over(self, _now_ns: int) -> bool:
        """Whether it was stopped."""
        return self._is_stopped

    def count_unsent(self) -> int:
        """Return 0: what is due is sent."""
        return 0


class SoakHits:
    """Makes one hit after another.

    Args:
        seed: draws them.
        tempo: how fast they are sent. At a low rate a larger share is of yesterday, about one hit a second at least:
            else a fault of yesterday might meet nobody.
        now_ms: a time within the day that counts as today, whatever midnight comes during the run.
    """

    def __init__(self, seed: int, tempo: Tempo, now_ms: int) -> None:
        self._tempo = tempo
        self._draw = random.Random(seed)
        self._yesterday_ms = now_ms - now_ms % DAY_MS - DAY_MS
        self._numbers = range(_IDS_OF_EACH_KIND)
        self._skew = list(accumulate(1 / (number + 1) for number in self._numbers))

    def make(self) -> TrackedHit:
        """Return a hit that was never sent."""
        draw = self._draw
        kind = draw.random()
        late_share = max(LATE_SHARE, 1 / self._tempo.rate)
        if kind < late_share:
            return self._make_late()
        number = draw.choices(self._numbers, cum_weights=self._skew)[0]
        if kind < late_share + _KEYED_SHARE:
            return TrackedHit(f"uuid/{number}", key=build_uuid7(draw, time.time_ns() // 1_000_000))
        return TrackedHit(f"plain/{number}")

    def _make_late(self) -> TrackedHit:
        time_ms = self._yesterday_ms + self._draw.randrange(DAY_MS)
        timestamp = datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")
        number = self._draw.randrange(_LATE_IDS)
        return TrackedHit(f"{_LATE}{number}", key=f"{self._draw.getrandbits(96):024x}", timestamp=timestamp)


class SoakRecord(Record):
    """The client's record, which also knows when hits of today were acknowledged, all ids together."""

    def __init__(self) -> None:
        super().__init__()
        self._today_ms = array("q")

    def note_acknowledged(self, hit: TrackedHit, now_ms: int) -> None:
        """Book a 204."""
        if not hit.is_acknowledged and not hit.id.startswith(_LATE):
            self._today_ms.append(now_ms)
        super().note_acknowledged(hit, now_ms)

    def count_today_before(self, time_ms: int) -> int:
        """Return how many hits of today had been acknowledged before the time."""
        return bisect_left(self._today_ms, time_ms)
