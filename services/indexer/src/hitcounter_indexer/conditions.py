"""The state of Redis and Elasticsearch, shared by all tasks of one indexer, and retries while Redis is down."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from hitcounter.backoff import backoff_seconds
from hitcounter.errors import IndexUnavailable, StreamUnavailable
from hitcounter.health import Readiness
from hitcounter.logs import get_logger

from hitcounter_indexer.lifecycle import Lifecycle
from hitcounter_indexer.metrics import IndexerMetrics

REDIS, ELASTICSEARCH = "redis", "elasticsearch"
AS_OF = "as-of"
_T = TypeVar("_T")

log = get_logger()


class Conditions:
    """The state of Redis and Elasticsearch. Each change is in /readyz and the metrics; the log has only new reasons."""

    def __init__(self, readiness: Readiness, metrics: IndexerMetrics) -> None:
        self._readiness = readiness
        self._metrics = metrics
        self._waited_for: set[str] = set()
        """The servers that work waits for."""

    def note_problem(self, error: StreamUnavailable | IndexUnavailable) -> None:
        """Record that a call failed. The error determines the server."""
        server = REDIS if isinstance(error, StreamUnavailable) else ELASTICSEARCH
        self._metrics.failures.labels(server).inc()
        self._waited_for.add(server)
        if self._readiness.set_problem(server, str(error)):
            log.warning("waiting", server=server, reason=str(error))

    def note_available(self, server: str) -> None:
        """Record that a call to a server succeeded."""
        self._waited_for.discard(server)
        if self._readiness.clear(server):
            log.info("connected", server=server)

    def note_response(self, server: str) -> None:
        """Record that a server responded, which is enough if /readyz only waits for the first contact."""
        if self._readiness.problems.get(server) and server not in self._waited_for:
            self.note_available(server)

    # ── problems outside of the main work ───────────────────────────────────────────────────────────────────────────

    def note_degraded(self, name: str, reason: str) -> None:
        """Record a problem that does not stop the indexer."""
        if self._readiness.warn(name, [reason]):
            log.warning("degraded", what=name, reason=reason)

    def clear_degraded(self, name: str) -> None:
        """Record that such a problem is gone."""
        if name in self._readiness.warnings:
            self._readiness.warn(name, [])
            log.info("recovered", what=name)

    def note_background_failure(self, name: str, error: IndexUnavailable) -> None:
        """Record that a call outside of the main work failed. The main work continues."""
        self._metrics.failures.labels(ELASTICSEARCH).inc()
        self.note_degraded(name, str(error))
        if error.status is not None:
            self.note_response(ELASTICSEARCH)
        elif ELASTICSEARCH in self._readiness.problems:
            self._readiness.set_problem(ELASTICSEARCH, str(error))


async def retry_redis(action: Callable[[], Awaitable[_T]], lifecycle: Lifecycle, conditions: Conditions) -> _T:
    """Repeat a call with backoff while Redis is down, and return its result.

    Raises:
        StreamUnavailable: the call failed while the indexer is stopping.
    """
    attempt = 0
    while True:
        try:
            result = await action()
        except StreamUnavailable as error:
            conditions.note_problem(error)
            if lifecycle.is_stopping:
                raise
            await lifecycle.pause(backoff_seconds(attempt))
            attempt += 1
        else:
            conditions.note_available(REDIS)
            return result
