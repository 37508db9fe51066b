"""What the stream hands out and takes back. Pure: it knows no Redis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Durability(StrEnum):
    """What an accepted entry has survived by the time it is acknowledged."""

    MEMORY = "memory"
    """Redis has it, and writes it to its append-only file when `appendfsync` says so."""
    DISK = "disk"
    """Redis has synced it to its disk (WAITAOF, from Redis 7.2 on)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry as it was delivered."""

    entry_id: str
    payload: bytes
    """The bytes of its HitBatch; empty where the entry was not written by us."""
    hits: int
    """The hits that the ledger has booked for it."""
    positions: frozenset[int] | None = None
    """Only the documents at these positions are meant (a dead letter sent again); None for all."""
    deliveries: int = 1


@dataclass(frozen=True, slots=True)
class PendingEntry:
    """What the group knows of an entry in flight."""

    entry_id: str
    consumer: str
    idle_ms: int
    """Since its last delivery, or since the consumer renewed its claim."""
    deliveries: int

    @property
    def time_ms(self) -> int:
        """When it was accepted, by Redis's clock."""
        return int(self.entry_id.partition("-")[0])


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Hits of one entry that can never be indexed, for one reason."""

    reason: str
    detail: str
    hits: int
    payload: bytes
    positions: Sequence[int] | None = None
    """The positions of their documents in the batch; None for the whole entry."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """How the hits of one entry ended: indexed + duplicate + the hits of its dead letters are all of them."""

    entry_id: str
    indexed: int = 0
    duplicate: int = 0
    dead_letters: Sequence[DeadLetter] = ()


@dataclass(frozen=True, slots=True)
class StoredDeadLetter:
    """A dead letter as it lies in its stream."""

    letter_id: str
    """Its own id there; begins with the milliseconds at which it became a dead letter."""
    entry_id: str
    """The entry it came from."""
    letter: DeadLetter
