"""Housekeeping of an installation: compare the ledger with the stream, remove dead consumers, delete expired indices.

One indexer of an installation does this: the one that holds the as-of lease. If it is killed, its lease expires, and
the next holder continues. Two holders for a moment do no harm, because every task may be repeated.

Deleted indices cannot be restored, so nothing is deleted while a clock may be wrong: the clocks of this machine, of
Redis and of Elasticsearch must agree that an index has expired (decision 33), and our clock must not have jumped within
the last hour.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from hitcounter.elastic import Indices, RetentionReport
from hitcounter.errors import IndexUnavailable, StreamUnavailable
from hitcounter.indices import CLOCK_TOLERANCE_MS, find_clock_fault
from hitcounter.logs import get_logger
from hitcounter.stream import HitStream

from hitcounter_indexer.conditions import Conditions
from hitcounter_indexer.metrics import IndexerMetrics

RETENTION = "retention"
_CHECK_SECONDS = 5.0
"""How often an indexer checks whether it holds the lease."""
_VACANT_CHECKS = 3
"""Nobody keeps the lease while a recent day is red, because an indexer that cannot refresh gives it up at once. If
nobody had it at so many checks in a row, all indexers do the housekeeping, which does no harm."""
_PERIOD_SECONDS = 30.0
_RETENTION_SECONDS = 60.0
_TASK_MAX_SECONDS = 60.0
_SCAN_MAX_ENTRIES = 10_000
_SCAN_MAX_SECONDS = 5.0
_CONSUMER_SILENCE_MS = 10 * 60 * 1000
"""A running indexer is active every second. If it was removed by mistake, its next read creates it again."""
_JUMP_HOLD_SECONDS = 3600.0
"""No index is deleted for this long after a clock jumped, so that a person can check it. Retention is not urgent."""

log = get_logger()


class ClockFault(Exception):
    """A clock may be wrong, so nothing was deleted."""


@dataclass(slots=True)
class _Task:
    name: str
    run: Callable[[], Awaitable[None]]
    period_seconds: float
    due_at: float = 0.0
    """On the monotonic clock."""


class Housekeeping:
    """Runs the tasks that one indexer of an installation should do, while it holds the as-of lease.

    Args:
        stream: the stream of the installation.
        indices: its indices.
        conditions: where failures of retention are reported.
        metrics: where the results are exported; those of indexers without the lease are 0.
        name: the name of this indexer as publisher of the as-of.
    """

    def __init__(
        self, stream: HitStream, indices: Indices, conditions: Conditions, metrics: IndexerMetrics, *, name: str
    ) -> None:
        self._stream = stream
        self._indices = indices
        self._conditions = conditions
        self._metrics = metrics
        self._name = name
        self._clock_offset_seconds = _read_clock_offset()
        self._jumped_at: float | None = None
        self._vacant_checks = 0
        """How often in a row nobody had the lease."""
        self._tasks = (
            _Task("compare the ledger with the stream", self._compare_ledger, _PERIOD_SECONDS),
            _Task("remove dead consumers", self._remove_dead_consumers, _PERIOD_SECONDS),
            _Task("delete expired indices", self._apply_retention, _RETENTION_SECONDS),
        )

    async def run(self) -> None:
        """Do what is due, until cancelled."""
        while True:
            await self.run_due()
            await asyncio.sleep(_CHECK_SECONDS)

    async def run_due(self) -> None:
        """Run the tasks that are due, if this indexer holds the lease or nobody does for long.

        A task that fails does not stop the others.
        """
        self._watch_clock()
        try:
            publisher = await self._stream.as_of.find_publisher()
        except StreamUnavailable:
            return  # the workers report it
        except Exception:  # the top of a loop: whatever it is, the next check may succeed
            log.exception("housekeeping could not look up the lease")
            return
        self._vacant_checks = 0 if publisher else self._vacant_checks + 1
        if publisher != self._name and self._vacant_checks < _VACANT_CHECKS:
            self._metrics.ledger_difference.set(0)  # the holder exports it
            self._metrics.retention_failing.set(0)
            self._conditions.clear_degraded(RETENTION)
            return
        for task in self._tasks:
            if time.monotonic() >= task.due_at:
                await self._run_task(task)
                task.due_at = time.monotonic() + task.period_seconds

    async def _run_task(self, task: _Task) -> None:
        try:
            async with asyncio.timeout(_TASK_MAX_SECONDS):
                await task.run()
        except StreamUnavailable:
            return  # the workers report it
        except TimeoutError:
            log.warning("housekeeping took too long", task=task.name, seconds=_TASK_MAX_SECONDS)
        except Exception:  # the top of a loop: whatever it is, the next time may succeed
            log.exception("housekeeping failed", task=task.name)

    async def _compare_ledger(self) -> None:
        """Compare ledger and stream if that is cheap now; otherwise keep the last result.

        A script in Redis scans the stream, so no payload is transferred, and only while the stream is short, which it
        usually is.
        """
        if (await self._stream.monitor.status()).entries > _SCAN_MAX_ENTRIES:
            return
        difference = await self._stream.monitor.audit_backlog(max_seconds=_SCAN_MAX_SECONDS)
        if difference is None:
            return
        if difference:
            log.error("ledger and stream differ", hits=difference)
        self._metrics.ledger_difference.set(difference)

    async def _remove_dead_consumers(self) -> None:
        if removed := await self._stream.consumer.sweep(min_idle_ms=_CONSUMER_SILENCE_MS):
            log.info("removed consumers of indexers that are gone", consumers=sorted(removed))

    async def _apply_retention(self) -> None:
        is_done = False
        try:
            is_done = await self._delete_expired()
        finally:  # also if it was cancelled, because it took too long
            self._metrics.retention_failing.set(0 if is_done else 1)

    async def _delete_expired(self) -> bool:
        """Delete expired indices, and return whether nothing that has expired is left."""
        try:
            self._check_jump()
            report = await apply_retention(self._stream, self._indices)
        except ClockFault as fault:
            self._conditions.note_degraded(RETENTION, f"no index is deleted: {fault}")
            return False
        except IndexUnavailable as error:
            self._conditions.note_background_failure(RETENTION, error)
            return False
        if report.dropped:
            log.info("deleted expired indices", indices=report.dropped)
        if report.unexpired:
            names = ", ".join(report.unexpired)
            self._conditions.note_degraded(RETENTION, f"by the clock of Elasticsearch {names} has not expired")
            return False
        self._conditions.clear_degraded(RETENTION)
        return True

    def _watch_clock(self) -> None:
        """Note a jump of our clock, in indexers without the lease, too: they may get it."""
        offset = _read_clock_offset()
        if abs(offset - self._clock_offset_seconds) * 1000 > CLOCK_TOLERANCE_MS:
            self._jumped_at = time.monotonic()
        self._clock_offset_seconds = offset

    def _check_jump(self) -> None:
        if self._jumped_at is not None and time.monotonic() - self._jumped_at < _JUMP_HOLD_SECONDS:
            raise ClockFault("the clock of this machine jumped within the last hour")


async def apply_retention(stream: HitStream, indices: Indices, *, is_dry_run: bool = False) -> RetentionReport:
    """Delete the expired indices of an installation.

    Raises:
        ClockFault: the clocks of this machine and of Redis differ; nothing was deleted.
        StreamUnavailable: Redis does not answer; nothing was deleted.
        IndexUnavailable: Elasticsearch is down or refuses.
    """
    redis_ms = (await stream.monitor.status()).now_ms
    own_ms = time.time_ns() // 1_000_000
    if fault := find_clock_fault("this machine", own_ms, {"Redis": redis_ms}):
        raise ClockFault(fault)
    return await indices.drop_expired(min(own_ms, redis_ms), is_dry_run=is_dry_run)


def _read_clock_offset() -> float:
    return time.time() - time.monotonic()
