"""Stopping, waiting and the heartbeat: shared by all tasks of one indexer."""

from __future__ import annotations

import asyncio
import contextlib
import time


class Lifecycle:
    """Whether the indexer is stopping, pauses that end early then, and the time of its last heartbeat."""

    def __init__(self) -> None:
        self._stopping = asyncio.Event()
        self.last_heartbeat = time.monotonic()
        """When work last made progress or waited on purpose. The liveness probe uses it."""

    @property
    def is_stopping(self) -> bool:
        """True once `stop` was called."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """End all current and future pauses."""
        self._stopping.set()

    def heartbeat(self) -> None:
        """Record that work makes progress."""
        self.last_heartbeat = time.monotonic()

    async def pause(self, seconds: float) -> None:
        """Wait, but return early when the indexer stops."""
        self.heartbeat()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
