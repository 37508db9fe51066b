"""The ledger: accepted = indexed + duplicate + dead + backlog, counted in hits. Pure.

Redis stores four of the five numbers and changes them in the same atomic step as the entries. The backlog is computed
from them. An audit compares the backlog with the entries that are really in the stream.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ledger:
    """The number of hits ever accepted, and how they ended."""

    accepted: int = 0
    indexed: int = 0
    duplicate: int = 0
    """Hits whose document already existed: a redelivery, or a repeated idempotency key. A success."""
    dead: int = 0
    replayed: int = 0
    """Hits ever moved from dead letters back into the backlog. Not a state: only an audit needs it."""

    @property
    def backlog(self) -> int:
        """Hits accepted and not yet settled, including those in flight."""
        return self.accepted - self.indexed - self.duplicate - self.dead

    @property
    def settled(self) -> int:
        """Hits ever settled. Replayed hits were settled before as dead, and are settled once more."""
        return self.indexed + self.duplicate + self.dead + self.replayed


@dataclass(frozen=True, slots=True)
class IndexerWork:
    """What indexers did, as they book it in the ledger about once a second: the input of scaling.py."""

    busy_ms: int = 0
    """Milliseconds in which an indexer had a bulk in progress, summed over all indexers."""
    hits: int = 0
    """Hits that they settled. Indexers of older versions settle hits and book no work."""
    pushed_back: int = 0
    """Documents that Elasticsearch sent back because it was overloaded, or left without an answer.

    Of an indexer that gets no answers at all, only the first request counts: it may be cut off.
    """

    def __sub__(self, earlier: IndexerWork) -> IndexerWork:
        return IndexerWork(
            self.busy_ms - earlier.busy_ms, self.hits - earlier.hits, self.pushed_back - earlier.pushed_back
        )


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """A consistent snapshot of the stream and the ledger, by the clock of Redis."""

    ledger: Ledger
    entries: int
    """Entries in the stream: queued or in flight."""
    oldest_ms: int | None
    """When the oldest unsettled entry was added; None for an empty stream."""
    as_of_ms: int | None
    """Every hit accepted before this time is countable or a dead letter. None until an indexer has published it."""
    now_ms: int
    entries_in_flight: int = 0
    """The number of entries that were delivered to an indexer and are not settled."""
    work: IndexerWork = IndexerWork()
    indexers: int = 0
    """The number of consumers in the group, including killed ones that were not removed yet."""

    @property
    def oldest_age_seconds(self) -> float:
        """The age of the oldest unsettled entry; 0 for an empty stream."""
        return 0.0 if self.oldest_ms is None else max(0, self.now_ms - self.oldest_ms) / 1000


@dataclass(frozen=True, slots=True)
class StreamMemory:
    """The memory and persistence of the Redis that has the stream, and whether it may lose hits."""

    used_bytes: int
    capacity_bytes: int
    """Its maxmemory, or the memory of its machine if maxmemory is not set; 0 if it reports neither."""
    policy_fault: str = ""
    """Why it may evict hits, and what to change; empty if it does not evict."""
    is_aof_enabled: bool | None = None
    """Whether it writes an append-only file; None if it does not report that, is a replica, or loads its file."""
    evicted_keys: int | None = None
    """Keys that it has evicted since it started; None if it does not report that."""

    @property
    def faults(self) -> list[str]:
        """The reasons why it may lose hits, as sentences."""
        faults = [self.policy_fault] if self.policy_fault else []
        if self.is_aof_enabled is False:
            faults.append("Redis has appendonly no: when it stops, it loses all hits not yet indexed; set it to yes")
        return faults


@dataclass(frozen=True, slots=True)
class Audit:
    """The ledger, and the hits that a scan of the streams found."""

    before: Ledger
    """The ledger when the scan started."""
    after: Ledger
    """The ledger when the scan ended."""
    stream_hits: int
    dead_hits: int

    @property
    def difference(self) -> int:
        """Hits in the stream that the ledger does not account for (negative: missing). Anything but 0 is an error.

        If nothing changed during the scan, it is hits in the stream - backlog. Otherwise the scan may have missed hits
        that were settled meanwhile, and may have counted hits that were accepted meanwhile. Only what these cannot
        explain is a difference.
        """
        settled = self.after.settled - self.before.settled
        added = self._added(self.after) - self._added(self.before)
        least, most = self.before.backlog - settled, self.before.backlog + added
        return min(0, self.stream_hits - least) + max(0, self.stream_hits - most)

    @property
    def dead_difference(self) -> int:
        """Hits in dead letters minus the dead hits of the ledger; negative if dead letters were discarded."""
        return self.dead_hits - self.after.dead

    @property
    def is_exact(self) -> bool:
        """True if nothing changed during the scan, so that the difference is exact."""
        return self.before == self.after

    @staticmethod
    def _added(ledger: Ledger) -> int:
        """Return the number of hits ever added to the stream."""
        return ledger.accepted + ledger.replayed
