"""The client's own record: what became of every hit it sent, id by id. Pure; what is counted is held against it.

Two kinds of hits. One without a key counts each time it is taken, so an answer that did not come leaves a doubt for
ever. One with a key counts once however often it is sent, so its client repeats it until it is acknowledged, and no
doubt remains. A hit that was refused, and never in doubt, must not be counted.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class IdRecord:
    """What is known of the hits of one id."""

    acknowledged_ms: array[int] = field(default_factory=lambda: array("q"))
    """When each hit was first acknowledged, in order: the wall clock, in milliseconds."""
    doubtful: int = 0
    """Hits that were neither acknowledged nor refused, and never will be."""
    sent: int = 0
    """Hits of which at least one attempt was made."""

    @property
    def acknowledged(self) -> int:
        """Hits that must be counted."""
        return len(self.acknowledged_ms)

    def acknowledged_before(self, time_ms: int) -> int:
        """Return how many hits had been acknowledged before the time."""
        return bisect_left(self.acknowledged_ms, time_ms)


class TrackedHit:
    """One hit, over all attempts to send it."""

    __slots__ = ("id", "is_acknowledged", "is_doubtful", "key", "timestamp", "was_sent")

    def __init__(self, id_: str, key: str | None = None, timestamp: str | None = None) -> None:
        self.id = id_
        self.key = key
        self.timestamp = timestamp
        self.was_sent = False
        self.is_acknowledged = False
        self.is_doubtful = False
        """An attempt had no clear answer; with a key, only an acknowledgement clears that."""

    @property
    def must_be_repeated(self) -> bool:
        """True while only another attempt can tell what will be counted."""
        return self.key is not None and self.is_doubtful and not self.is_acknowledged


class Record:
    """What became of all hits of a run. Used by one thread; its totals may be read by others.

    Attributes:
        ids: what is known, by id.
        attempts: how many requests ended how.
        unclear: hits with a key that must still be repeated.
    """

    def __init__(self) -> None:
        self.ids: dict[str, IdRecord] = {}
        self.attempts: Counter[str] = Counter()
        self.sent_attempts = 0
        self.acknowledged_attempts = 0
        self.unclear: set[TrackedHit] = set()

    def note_sent(self, hit: TrackedHit) -> None:
        """Book an attempt before it leaves."""
        self.sent_attempts += 1
        if not hit.was_sent:
            hit.was_sent = True
            self._of(hit).sent += 1

    def note_acknowledged(self, hit: TrackedHit, now_ms: int) -> None:
        """Book a 204."""
        self.attempts["acknowledged"] += 1
        self.acknowledged_attempts += 1
        if not hit.is_acknowledged:
            hit.is_acknowledged = True
            self._of(hit).acknowledged_ms.append(now_ms)
            self.unclear.discard(hit)

    def note_refused(self, kind: str) -> None:
        """Book an answer that says that nothing was taken."""
        self.attempts[kind] += 1

    def note_unknown(self, hit: TrackedHit, kind: str) -> None:
        """Book an attempt of which nobody can know."""
        self.attempts[kind] += 1
        self.attempts["unknown"] += 1
        if hit.is_acknowledged:
            return
        if hit.key is None:
            self._of(hit).doubtful += 1
        else:
            hit.is_doubtful = True
            self.unclear.add(hit)

    @property
    def unknown_attempts(self) -> int:
        """Requests of which nobody can know."""
        return self.attempts["unknown"]

    def _of(self, hit: TrackedHit) -> IdRecord:
        try:
            return self.ids[hit.id]
        except KeyError:
            return self.ids.setdefault(hit.id, IdRecord())


def find_difference(record: IdRecord, counted: int) -> int:
    """Return by how much a count is wrong: negative for lost hits, positive for hits counted twice or never sent."""
    if counted < record.acknowledged:
        return counted - record.acknowledged
    return max(0, counted - record.acknowledged - record.doubtful)
