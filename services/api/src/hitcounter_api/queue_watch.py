"""Watching the queue: ledger, backlog and as-of for reads, for /status and for Prometheus; and whether Redis is there.

The API shows the queue even while no indexer runs: that is when the backlog matters most.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final, Protocol

from hitcounter.backoff import backoff_seconds
from hitcounter.errors import StreamUnavailable
from hitcounter.health import Readiness
from hitcounter.ledger import StreamMemory, StreamStatus
from hitcounter.logs import get_logger
from hitcounter.metrics import QueueMetrics

REDIS: Final = "redis"
_POLL_SECONDS: Final = 1.0
_LOOK_MAX_SECONDS: Final = 0.5
"""A read waits no longer than this for what stands in its headers only."""

log = get_logger()


class StatusSource(Protocol):
    """What the watch needs of the stream."""

    async def ping(self) -> None:
        """Check that Redis answers and may be trusted with hits."""

    async def status(self) -> StreamStatus:
        """Return one consistent look at the stream."""

    async def memory(self) -> StreamMemory:
        """Return how much memory Redis uses, and may use."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """How complete counts are that are read after this was seen."""

    as_of_ms: int | None
    """Every hit accepted before is countable, or a dead letter. None: not known."""
    backlog: int | None
    """Hits accepted and not yet settled. None: Redis is away."""

    def until(self, end_ms: int) -> Freshness:
        """Return the same for windows that end then: before the as-of, where the clock here is behind that of Redis."""
        return Freshness(None if self.as_of_ms is None else min(self.as_of_ms, end_ms), self.backlog)


class QueueWatch:
    """Looks at the queue when asked, and once a second while `run` runs; remembers the last as-of."""

    def __init__(self, stream: StatusSource, metrics: QueueMetrics, readiness: Readiness) -> None:
        self._stream = stream
        self._metrics = metrics
        self._readiness = readiness
        self._as_of_ms: int | None = None
        self._trouble: str | None = None

    async def look(self) -> StreamStatus:
        """Return the state of the queue.

        Raises:
            StreamUnavailable: Redis is away, or takes too long to say.
        """
        try:
            async with asyncio.timeout(_LOOK_MAX_SECONDS):
                status = await self._stream.status()
        except TimeoutError as error:
            raise StreamUnavailable(f"Redis does not answer within {_LOOK_MAX_SECONDS:g} seconds") from error
        if status.as_of_ms is not None:
            self._as_of_ms = status.as_of_ms
        return status

    async def see_freshness(self) -> Freshness:
        """Return how complete counts are that are read from now on; with Redis away, what was last known.

        An as-of stays true: the hits before it do not cease to be countable.
        """
        try:
            status = await self.look()
        except StreamUnavailable:
            return Freshness(self._as_of_ms, None)
        return Freshness(self._as_of_ms, status.ledger.backlog)

    async def run(self) -> None:
        """Watch until cancelled."""
        attempt = 0
        while True:
            is_there = await self.watch_once()
            attempt = 0 if is_there else attempt + 1
            await asyncio.sleep(_POLL_SECONDS if is_there else backoff_seconds(attempt, most_seconds=2.0))

    async def watch_once(self) -> bool:
        """Look once, show what is seen, and tell whether Redis is there."""
        try:
            if REDIS in self._readiness.problems:
                await self._stream.ping()
            self._metrics.show(await self.look(), await self._stream.memory())
        except StreamUnavailable as error:
            self._metrics.hide()
            self._note_trouble(str(error))
            return False
        except Exception:  # the top of a loop: whatever it is, the next look may succeed
            self._metrics.hide()
            log.exception("the queue could not be watched")
            return False
        self._note_contact()
        return True

    def _note_trouble(self, reason: str) -> None:
        if REDIS in self._readiness.problems:
            self._readiness.set_problem(REDIS, reason)
        if self._trouble is None:
            log.warning("waiting for Redis", reason=reason)
        self._trouble = reason

    def _note_contact(self) -> None:
        is_first = self._readiness.clear(REDIS)
        if is_first or self._trouble is not None:
            log.info("Redis is there")
        self._trouble = None
