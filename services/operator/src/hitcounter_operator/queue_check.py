"""Checks and repairs the queue, and computes from its ledger how many indexers are wanted."""

from __future__ import annotations

import time
from collections.abc import Callable

from hitcounter.errors import StreamUnavailable
from hitcounter.ledger import StreamStatus
from hitcounter.scaling import Memory, Policy, Sample, recommend
from hitcounter.stream import StreamConsumer, StreamMonitor

from hitcounter_operator.state import Notice, Problem, QueueState, Reason


class QueueCheck:
    """Checks the queue of one installation."""

    def __init__(
        self, monitor: StreamMonitor, consumer: StreamConsumer, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._monitor = monitor
        self._consumer = consumer
        self._monotonic = monotonic
        self._before: StreamStatus | None = None
        self._memory = Memory()
        self._is_measured = False

    def forget(self) -> None:
        """Forget everything measured so far."""
        self._before, self._memory, self._is_measured = None, Memory(), False

    async def run(self, policy: Policy, *, is_full: bool) -> QueueState:
        """Read the queue and repair its group; a full check also checks the settings of Redis."""
        notices: list[Notice] = []
        try:
            if is_full:
                await self._monitor.ping()
            if await self._consumer.ensure_group():
                notices.append(self._report_group())
            status = await self._monitor.status()
        except StreamUnavailable as error:
            recommendation = recommend(None, self._memory, policy)
            self._memory = recommendation.memory
            problem = Problem("RedisUnavailable", f"{error}.")
            return QueueState(None, recommendation, problem=problem, notices=tuple(notices))
        before, self._before = self._before, status
        if before and status.ledger.accepted < before.ledger.accepted:
            notices.append(_report_step_back(before, status))
        recommendation = recommend(Sample(status, self._monotonic()), self._memory, policy)
        self._memory = recommendation.memory
        self._is_measured |= recommendation.terms is not None
        return QueueState(status, recommendation, is_first=not self._is_measured, notices=tuple(notices))

    def _report_group(self) -> Notice:
        if self._before is None:
            return Notice(Reason.GROUP_CREATED, "Created the consumer group of the stream.")
        return Notice(
            Reason.GROUP_REPAIRED,
            "The consumer group of the stream was missing, and was created again from the first entry on. Entries in "
            "flight are delivered again; their hits are still counted once.",
            is_warning=True,
        )


def _report_step_back(before: StreamStatus, now: StreamStatus) -> Notice:
    return Notice(
        Reason.LEDGER_STEPPED_BACK,
        f"The ledger went back from {before.ledger.accepted:,} to {now.ledger.accepted:,} accepted hits: Redis lost "
        "data that it had not saved, or was emptied.",
        is_warning=True,
    )
