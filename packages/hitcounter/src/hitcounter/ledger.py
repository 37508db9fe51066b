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
    replayed: int = 0
    """Hits that came back from dead letters into the backlog, over all time. Not a state: only an audit needs it."""

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
    entries_in_flight: int = 0
    """Of the entries, those that were delivered to an indexer."""

    @property
    def oldest_age_seconds(self) -> float:
        """The age of the oldest unsettled entry; 0 for an empty stream."""
        return 0.0 if self.oldest_ms is None else max(0, self.now_ms - self.oldest_ms) / 1000


@dataclass(frozen=True, slots=True)
class StreamMemory:
    """How the Redis that holds the stream keeps it: what it uses and may use, and whether it may lose it."""

    used_bytes: int
    capacity_bytes: int
    """Its maxmemory, or the memory of its machine where it has none; 0 if it tells neither."""
    policy_fault: str = ""
    """Why it may evict hits, and what to change; empty where it may not."""
    is_aof_enabled: bool | None = None
    """Whether it writes what it holds to an append-only file; None if it does not tell."""
    evicted_keys: int | None = None
    """Keys that it has evicted since it started; None if it does not tell."""

    @property
    def faults(self) -> list[str]:
        """What keeps it from keeping hits, in sentences."""
        faults = [self.policy_fault] if self.policy_fault else []
        if self.is_aof_enabled is False:
            faults.append("Redis has appendonly no: when it ends, it loses all that was not indexed; set it to yes")
        return faults


@dataclass(frozen=True, slots=True)
class Audit:
    """The ledger beside what a walk over the streams found."""

    before: Ledger
    """The ledger when the walk began."""
    after: Ledger
    """The ledger when it ended."""
    stream_hits: int
    dead_hits: int

    @property
    def difference(self) -> int:
        """Hits in the stream beyond what the ledger can explain (negative: missing); anything but 0 is a fault.

        While nothing moves that is hits in the stream - backlog. Otherwise the walk may have missed what was settled
        meanwhile and may have met what was accepted meanwhile, and only what lies beyond that is counted.
        """
        settled = self._settled(self.after) - self._settled(self.before)
        added = self._added(self.after) - self._added(self.before)
        least, most = self.before.backlog - settled, self.before.backlog + added
        return min(0, self.stream_hits - least) + max(0, self.stream_hits - most)

    @property
    def dead_difference(self) -> int:
        """Hits in dead letters beyond those that the ledger has as dead; negative where letters were discarded."""
        return self.dead_hits - self.after.dead

    @property
    def is_exact(self) -> bool:
        """True where nothing moved during the walk, so that the difference has no room for doubt."""
        return self.before == self.after

    @staticmethod
    def _added(ledger: Ledger) -> int:
        """Return the hits that were ever put into the stream."""
        return ledger.accepted + ledger.replayed

    @staticmethod
    def _settled(ledger: Ledger) -> int:
        """Return the hits that were ever taken out of it; those sent again had been counted as dead once."""
        return ledger.indexed + ledger.duplicate + ledger.dead + ledger.replayed
