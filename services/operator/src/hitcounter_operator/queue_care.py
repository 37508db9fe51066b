"""Checks and repairs the queue: the consumer group exists, dead consumers are removed, the ledger never decreases."""

from __future__ import annotations

from typing import Protocol

from hitcounter.errors import StreamUnavailable
from hitcounter.ledger import StreamStatus

from hitcounter_operator.findings import QueueLook
from hitcounter_operator.notes import Note, Problem, Reason
from hitcounter_operator.objects import list_names


class Monitor(Protocol):
    """What the operator reads from the stream."""

    async def ping(self) -> None:
        """Check that Redis answers and does not evict hits."""

    async def status(self) -> StreamStatus:
        """Return a snapshot of ledger and stream."""


class Group(Protocol):
    """How the operator repairs the consumer group."""

    async def ensure_group(self) -> bool:
        """Create stream and group if missing; return whether they were missing."""

    async def sweep(self, *, min_idle_ms: int) -> list[str]:
        """Remove dead consumers; return their names."""


class QueueCare:
    """Manages the queue of one installation."""

    def __init__(self, monitor: Monitor, group: Group, *, silence_seconds: float) -> None:
        self._monitor = monitor
        self._group = group
        self._silence_ms = int(silence_seconds * 1000)
        self._before: StreamStatus | None = None

    async def look(self, *, is_care_due: bool) -> QueueLook:
        """Read the queue and repair its group. If care is due, also check Redis and remove dead consumers."""
        notes: list[Note] = []
        try:
            if is_care_due:
                await self._monitor.ping()
            if await self._group.ensure_group():
                notes.append(self._note_group())
            if is_care_due and (removed := await self._group.sweep(min_idle_ms=self._silence_ms)):
                text = (
                    f"Removed {len(removed)} dead consumers without pending entries: {list_names(sorted(removed), 5)}."
                )
                notes.append(Note(Reason.CONSUMERS_REMOVED, text))
            status = await self._monitor.status()
        except StreamUnavailable as error:
            return QueueLook(None, None, None, Problem("RedisUnavailable", f"{error}."), tuple(notes))
        before, self._before = self._before, status
        if before and status.ledger.accepted < before.ledger.accepted:
            notes.append(_note_step_back(before, status))
        return QueueLook(status, *_measure(before, status), None, tuple(notes))

    def _note_group(self) -> Note:
        if self._before is None:
            return Note(Reason.GROUP_CREATED, "Created the consumer group of the stream.")
        return Note(
            Reason.GROUP_REPAIRED,
            "The consumer group of the stream was missing, and was created again from the first entry on. Entries in "
            "flight are delivered again; their hits are still counted once.",
            is_warning=True,
        )


def _note_step_back(before: StreamStatus, now: StreamStatus) -> Note:
    return Note(
        Reason.LEDGER_STEPPED_BACK,
        f"The ledger went back from {before.ledger.accepted:,} to {now.ledger.accepted:,} accepted hits: Redis lost "
        "data that it had not saved, or was emptied.",
        is_warning=True,
    )


def _measure(before: StreamStatus | None, now: StreamStatus) -> tuple[float | None, float | None]:
    """Return the hits accepted and settled per second between two snapshots, by the clock of Redis."""
    seconds = (now.now_ms - before.now_ms) / 1000 if before else 0.0
    if before is None or seconds <= 0 or now.ledger.accepted < before.ledger.accepted:
        return None, None
    accepted = now.ledger.accepted - before.ledger.accepted
    settled = accepted - (now.ledger.backlog - before.ledger.backlog)
    return accepted / seconds, max(0, settled) / seconds
