"""Compares the ledger with the stream from time to time, and removes dead consumers.

One indexer of an installation does this: the one that publishes the as-of. A script in Redis scans the stream, so no
payload is transferred, and only while the stream is short, which it usually is.
"""

from __future__ import annotations

import asyncio

from hitcounter.errors import StreamUnavailable
from hitcounter.logs import get_logger
from hitcounter.stream import HitStream
from prometheus_client import Gauge

_INTERVAL_SECONDS = 30.0
_WALK_MAX_ENTRIES = 10_000
_WALK_MAX_SECONDS = 5.0
_CONSUMER_SILENCE_MS = 10 * 60 * 1000
"""A running indexer is active every second. If it was removed by mistake, its next read creates it again."""

log = get_logger()


class LedgerWatch:
    """Exports the difference between ledger and stream, and removes the consumers of killed indexers.

    Args:
        stream: the stream to watch.
        difference: the metric of the difference in hits; 0 in indexers that do not compare.
        name: the name of this indexer as publisher of the as-of.
    """

    def __init__(self, stream: HitStream, difference: Gauge, *, name: str) -> None:
        self._stream = stream
        self._difference = difference
        self._name = name

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await self.look_once()
            await asyncio.sleep(_INTERVAL_SECONDS)

    async def look_once(self) -> None:
        """Compare once, if this indexer is the publisher."""
        try:
            if not await self._stream.as_of.is_publisher(self._name):
                self._difference.set(0)  # the publisher exports it
                return
            await self._compare()
            if removed := await self._stream.consumer.sweep(min_idle_ms=_CONSUMER_SILENCE_MS):
                log.info("removed consumers of indexers that are gone", consumers=sorted(removed))
        except StreamUnavailable:
            return  # the workers report it
        except Exception:  # the top of a loop: whatever it is, the next look may succeed
            log.exception("the ledger could not be compared with the stream")

    async def _compare(self) -> None:
        """Compare ledger and stream if that is cheap now; otherwise keep the last result."""
        if (await self._stream.monitor.status()).entries > _WALK_MAX_ENTRIES:
            return
        difference = await self._stream.monitor.audit_backlog(max_seconds=_WALK_MAX_SECONDS)
        if difference is None:
            return
        if difference:
            log.error("ledger and stream differ", hits=difference)
        self._difference.set(difference)
