"""The as-of: published, not guessed.

Sample the oldest unsettled entry, then refresh the indices, then publish the sample: in this order the published time
is true, for everything older than the sample was settled before the refresh began. One indexer at a time does it, by
a lease in Redis that it keeps while it is alive; the lease only spares refreshes, and an as-of is never set back. With
no indexer alive it stands still, which is the truth.
"""

from __future__ import annotations

import asyncio
import contextlib

from hitcounter.elastic import Indices
from hitcounter.errors import IndexUnavailable, StreamUnavailable
from hitcounter.logs import get_logger
from hitcounter.stream import HitStream

_LEASE_INTERVALS = 6
_LEASE_LEAST_MS = 3000

log = get_logger()


class AsOfPublisher:
    """Publishes the as-of of one installation while it holds the lease."""

    def __init__(self, stream: HitStream, indices: Indices, *, name: str, interval_ms: int) -> None:
        self._stream = stream
        self._indices = indices
        self._name = name
        self._interval_seconds = interval_ms / 1000
        self._lease_ms = max(_LEASE_LEAST_MS, _LEASE_INTERVALS * interval_ms)
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Publish until stopped, and once more after that: what was settled last is then covered too."""
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval_seconds):
                    await self._stopping.wait()
            try:
                await self.publish_once()
            except (StreamUnavailable, IndexUnavailable) as error:
                log.debug("the as-of stands still", reason=str(error))
            except Exception:
                log.exception("the as-of could not be published")

    def stop(self) -> None:
        """Let `run` publish a last time and return."""
        self._stopping.set()

    async def publish_once(self) -> int | None:
        """Sample, refresh, publish; return what was published, None if another indexer does it or was ahead.

        Raises:
            StreamUnavailable, IndexUnavailable: nothing was published.
        """
        sample_ms = await self._stream.sample_as_of(self._name, lease_ms=self._lease_ms)
        if sample_ms is None:
            return None
        await self._indices.refresh()
        return sample_ms if await self._stream.publish_as_of(sample_ms) else None
