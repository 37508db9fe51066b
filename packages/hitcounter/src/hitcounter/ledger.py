"""The ledger: accepted = indexed + duplicate + dead + backlog, counted in hits. Pure.

Redis keeps four of the five numbers, moved in the same atomic step as the entries themselves; the backlog follows
from them. An audit compares that with the entries really in the stream, which a subtraction alone could never show.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ledger:
    """What became of every hit that was ever accepted, in hits."""

    accepted: int = 0
    indexed: int = 0
    duplicate: int = 0
    """Hits whose document was there already: a redelivery, or a key sent again. A success."""
    dead: int = 0

    @property
    def backlog(self) -> int:
        """Hits accepted and not yet settled, those in flight included."""
        return self.accepted - self.indexed - self.duplicate - self.dead


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """One consistent look at the stream and the ledger, by Redis's clock."""

    ledger: Ledger
    entries: int
    """Entries in the stream: queued or in flight."""
    oldest_ms: int | None
    """When the oldest unsettled entry was added; None for an empty stream."""
    as_of_ms: int | None
    """Every hit accepted before it is countable or a dead letter; None before the first indexer said so."""
    now_ms: int

    @property
    def oldest_age_seconds(self) -> float:
        """The age of the oldest unsettled entry; 0 for an empty stream."""
        return 0.0 if self.oldest_ms is None else max(0, self.now_ms - self.oldest_ms) / 1000


@dataclass(frozen=True, slots=True)
class Audit:
    """The ledger beside what a walk over the streams found."""

    ledger: Ledger
    stream_entries: int
    stream_hits: int
    dead_letters: int
    dead_hits: int

    @property
    def backlog_difference(self) -> int:
        """Hits the ledger has in the backlog beyond those in the stream; anything but 0 is a fault."""
        return self.ledger.backlog - self.stream_hits

    @property
    def is_balanced(self) -> bool:
        """True where the stream holds exactly the hits that the ledger has in the backlog."""
        return self.backlog_difference == 0
