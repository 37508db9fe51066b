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
AS_OF = "as-of"

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
        self._waited_for: set[str] = set()
        """The servers for which work waits."""

    def note_problem(self, error: StreamUnavailable | IndexUnavailable) -> None:
        """Note that a call failed; which server it was follows from the error."""
        server = REDIS if isinstance(error, StreamUnavailable) else ELASTICSEARCH
        self._metrics.failures.labels(server).inc()
        self._waited_for.add(server)
        if self._readiness.set_problem(server, str(error)):
            log.warning("waiting", server=server, reason=str(error))

    def note_well(self, server: str) -> None:
        """Note that a server did what it was asked."""
        self._waited_for.discard(server)
        if self._readiness.clear(server):
            log.info("connected", server=server)

    def note_reached(self, server: str) -> None:
        """Note that a server answered at all: it is not waited for because it was never reached."""
        if self._readiness.problems.get(server) and server not in self._waited_for:
            self.note_well(server)

    # ── what is wrong beside the work ───────────────────────────────────────────────────────────────────────────────

    def note_degraded(self, name: str, reason: str) -> None:
        """Note that something is wrong which does not keep the indexer from its work."""
        if self._readiness.warn(name, [reason]):
            log.warning("degraded", what=name, reason=reason)

    def note_healed(self, name: str) -> None:
        """Note that it is no longer wrong."""
        if name in self._readiness.warnings:
            self._readiness.warn(name, [])
            log.info("well again", what=name)

    def note_trouble(self, name: str, error: IndexUnavailable) -> None:
        """Note that something beside the work failed for now; work goes on as far as it can."""
        self._metrics.failures.labels(ELASTICSEARCH).inc()
        self.note_degraded(name, str(error))
        if error.status is not None:
            self.note_reached(ELASTICSEARCH)
        elif ELASTICSEARCH in self._readiness.problems:
            self._readiness.set_problem(ELASTICSEARCH, str(error))
