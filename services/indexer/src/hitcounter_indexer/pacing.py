"""When to wait, when to stop, and what is waited for: shared by all that one indexer does."""

from __future__ import annotations

import asyncio
import contextlib
import time

from hitcounter.errors import IndexUnavailable, StreamUnavailable
from hitcounter.health import Readiness
from hitcounter.logs import get_logger

from hitcounter_indexer.metrics import IndexerMetrics

REDIS, ELASTICSEARCH = "redis", "elasticsearch"

log = get_logger()


class Pace:
    """The pulse of one indexer: pauses end early when it is to stop."""

    def __init__(self) -> None:
        self._stopping = asyncio.Event()
        self.last_beat = time.monotonic()
        """When work last moved, or was seen waiting on purpose: the liveness probe looks at it."""

    @property
    def is_stopping(self) -> bool:
        """True once `stop` was called."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """End all pauses, now and in future."""
        self._stopping.set()

    def beat(self) -> None:
        """Note that work moves."""
        self.last_beat = time.monotonic()

    async def pause(self, seconds: float) -> None:
        """Wait, but not beyond the moment at which the indexer is to stop."""
        self.beat()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()


class Conditions:
    """What is known of the two servers: said in readiness and metrics each time, in the log when it is news."""

    def __init__(self, readiness: Readiness, metrics: IndexerMetrics) -> None:
        self._readiness = readiness
        self._metrics = metrics

    def note_problem(self, error: StreamUnavailable | IndexUnavailable) -> None:
        """Note that a call failed; which server it was follows from the error."""
        server = REDIS if isinstance(error, StreamUnavailable) else ELASTICSEARCH
        self._metrics.failures.labels(server).inc()
        if self._readiness.set_problem(server, str(error)):
            log.warning("waiting", server=server, reason=str(error))

    def note_well(self, server: str) -> None:
        """Note that a server did what it was asked."""
        if self._readiness.clear(server):
            log.info("connected", server=server)
