"""Watches the queue: ledger, backlog and as-of for reads, /status and Prometheus, and whether Redis answers.

It also computes how many indexers are wanted, which autoscalers read from Prometheus or /status (hitcounter.scaling).
The API exports the queue even while no indexer runs, because then the backlog matters most. Once a second it also
checks memory and persistence of Redis, because a setting that was changed at run time may lose hits: see
`hitcounter.stream.StreamMonitor.memory`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from hitcounter.backoff import backoff_seconds
from hitcounter.errors import StreamUnavailable
from hitcounter.health import Readiness
from hitcounter.ledger import StreamMemory, StreamStatus
from hitcounter.logs import get_logger
from hitcounter.metrics import QueueMetrics
from hitcounter.scaling import Memory, Policy, Sample, explain, recommend

from hitcounter_api.coalescing import Coalescer

REDIS: Final = "redis"
_POLL_SECONDS: Final = 1.0
_LOOK_MAX_SECONDS: Final = 0.5
"""Time limit for one request to Redis."""

T = TypeVar("T")

log = get_logger()


class StatusSource(Protocol):
    """What the watch needs from the stream."""

    async def status(self) -> StreamStatus:
        """Return a consistent snapshot of the stream."""

    async def memory(self) -> StreamMemory:
        """Return memory and persistence of Redis, and whether it may lose hits."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """How complete counts are if they are read after this was measured."""

    as_of_ms: int | None
    """Every hit accepted before this time is countable or a dead letter. None: not known."""
    backlog: int | None
    """Hits accepted and not yet settled. None: Redis does not answer."""

    def until(self, end_ms: int) -> Freshness:
        """Return the same with an as-of of at most end_ms: our clock may be behind that of Redis."""
        return Freshness(None if self.as_of_ms is None else min(self.as_of_ms, end_ms), self.backlog)


class QueueWatch:
    """Reads the state of the queue on request, and once a second while `run` runs; keeps the last result."""

    def __init__(
        self, stream: StatusSource, metrics: QueueMetrics, readiness: Readiness, policy: Policy | None = None
    ) -> None:
        self._stream = stream
        self._metrics = metrics
        self._readiness = readiness
        self._policy = policy or Policy()
        self._scaling = Memory()
        self._indexers_wanted: int | None = None
        self._looks: Coalescer[str, StreamStatus] = Coalescer(
            places=1, max_waiting=1, max_wait_seconds=2 * _LOOK_MAX_SECONDS
        )
        self._freshness = Freshness(None, None)
        self._trouble: str | None = None

    @property
    def freshness(self) -> Freshness:
        """How complete counts are if they are read now, by the last check, about a second ago.

        An as-of stays true until Redis withdraws it, because hits stay countable. The backlog is None if the last check
        failed.
        """
        return self._freshness

    @property
    def indexers_wanted(self) -> int | None:
        """The number of indexers wanted at the last check; None if it is unknown."""
        return self._indexers_wanted

    async def look(self) -> StreamStatus:
        """Return the state of the queue at a time after this call. Concurrent calls share a request.

        Raises:
            StreamUnavailable: Redis does not answer in time.
        """
        return await self._looks.share("status", self._look)

    async def _look(self) -> StreamStatus:
        try:
            status = await _await_redis(self._stream.status())
        except StreamUnavailable:
            self._freshness = Freshness(self._freshness.as_of_ms, None)
            raise
        # None is valid, too: Redis withdraws an as-of that is ahead of its clock after the clock was set back
        # (sample.lua).
        self._freshness = Freshness(status.as_of_ms, status.ledger.backlog)
        return status

    async def run(self) -> None:
        """Watch until cancelled."""
        attempt = 0
        while True:
            is_there = await self.watch_once()
            attempt = 0 if is_there else attempt + 1
            await asyncio.sleep(_POLL_SECONDS if is_there else backoff_seconds(attempt, max_seconds=2.0))

    async def watch_once(self) -> bool:
        """Check once, export the result, and return whether Redis answers and does not evict hits."""
        try:
            memory = await _await_redis(self._stream.memory())
            status = await self.look()
            self._recommend(Sample(status, time.monotonic()))
            self._metrics.show(status, memory, self._indexers_wanted)
        except StreamUnavailable as error:
            self._recommend(None)
            self._metrics.hide()
            self._note_trouble(str(error))
            return False
        except Exception:  # the top of a loop: whatever it is, the next look may succeed
            self._recommend(None)
            self._metrics.hide()
            log.exception("the queue could not be watched")
            return False
        # The API stays ready: it answers reads, and tells clients why it refuses hits.
        if self._readiness.warn(REDIS, memory.faults):
            log.error("Redis may lose hits", reason="; ".join(memory.faults))
        if memory.policy_fault:
            self._note_trouble(memory.policy_fault)
            return False
        self._note_contact()
        return True

    def _recommend(self, sample: Sample | None) -> None:
        recommendation = recommend(sample, self._scaling, self._policy)
        self._scaling = recommendation.memory
        if recommendation.indexers_wanted != self._indexers_wanted:
            log.debug("indexers wanted", indexers=recommendation.indexers_wanted, explanation=explain(recommendation))
        self._indexers_wanted = recommendation.indexers_wanted

    def _note_trouble(self, reason: str) -> None:
        if REDIS in self._readiness.problems:
            self._readiness.set_problem(REDIS, reason)
        if self._trouble is None:
            log.warning("waiting for Redis", reason=reason)
        self._trouble = reason

    def _note_contact(self) -> None:
        is_first = self._readiness.clear(REDIS)
        if is_first or self._trouble is not None:
            log.info("Redis answers")
        self._trouble = None


async def _await_redis(request: Awaitable[T]) -> T:
    """Return the answer of Redis.

    Raises:
        StreamUnavailable: it does not answer in time.
    """
    try:
        async with asyncio.timeout(_LOOK_MAX_SECONDS):
            return await request
    except TimeoutError as error:
        raise StreamUnavailable(f"Redis does not answer within {_LOOK_MAX_SECONDS:g} seconds") from error
