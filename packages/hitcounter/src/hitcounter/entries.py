"""The values that the stream returns and accepts: entries, settlements, dead letters. Pure: no Redis here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Durability(StrEnum):
    """How safe an accepted entry is when it is acknowledged."""

    MEMORY = "memory"
    """Redis has it in memory, and writes it to its append-only file by its `appendfsync`."""
    DISK = "disk"
    """Redis has synced it to disk (WAITAOF, Redis 7.2 and newer)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry as Redis delivered it."""

    entry_id: str
    payload: bytes
    """The bytes of its HitBatch; empty if hitcounter did not write the entry."""
    hits: int
    """The number of hits that the ledger counts for it."""
    positions: frozenset[int] | None = None
    """Index only the documents at these positions (for a replayed dead letter); None for all."""
    deliveries: int = 1


@dataclass(frozen=True, slots=True)
class PendingEntry:
    """What the consumer group knows about an entry in flight."""

    entry_id: str
    consumer: str
    idle_ms: int
    """Since its last delivery, or since the consumer renewed its claim."""
    deliveries: int

    @property
    def time_ms(self) -> int:
        """When it was accepted, by the clock of Redis."""
        return int(self.entry_id.partition("-")[0])


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Hits of one entry that can never be indexed, for one reason."""

    reason: str
    detail: str
    hits: int
    payload: bytes
    positions: Sequence[int] | None = None
    """The positions of the documents in the batch; None for the whole entry."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """The result of one entry: indexed + duplicate + the hits of its dead letters are all of its hits."""

    entry_id: str
    indexed: int = 0
    duplicate: int = 0
    dead_letters: Sequence[DeadLetter] = ()

    @classmethod
    def reject(cls, entry: Entry, reason: str, detail: str) -> Settlement:
        """Return the settlement that makes the whole entry a dead letter."""
        positions = None if entry.positions is None else sorted(entry.positions)
        return cls(entry.entry_id, dead_letters=[DeadLetter(reason, detail, entry.hits, entry.payload, positions)])


@dataclass(frozen=True, slots=True)
class StoredDeadLetter:
    """A dead letter as it is stored in the stream of dead letters."""

    letter_id: str
    """Its id in that stream; it begins with the time in milliseconds at which it became a dead letter."""
    entry_id: str
    """The entry it came from."""
    letter: DeadLetter
