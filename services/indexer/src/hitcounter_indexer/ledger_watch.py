"""Watching ledger and group: a walk over the stream now and then, so that a difference is seen before anybody asks.

One indexer of an installation does it, the one that publishes the as-of at the time. The walk is done by a script in
Redis, so no payload travels, and only while the stream is short. It usually is: that is what indexers are for.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from hitcounter.errors import StreamUnavailable
from hitcounter.ledger import StreamStatus
from hitcounter.logs import get_logger
from prometheus_client import Gauge

_INTERVAL_SECONDS = 30.0
_WALK_MAX_ENTRIES = 10_000
_WALK_MAX_SECONDS = 5.0
_CONSUMER_SILENCE_MS = 10 * 60 * 1000
"""An indexer that lives shows itself within a second; one that was removed by mistake is made anew by its next read."""

log = get_logger()


class Watched(Protocol):
    """What the watch needs of the stream."""

    async def is_publisher(self, publisher: str) -> bool:
        """Tell whether this indexer publishes the as-of at present."""

    async def status(self) -> StreamStatus:
        """Return one consistent look at the stream."""

    async def audit_backlog(self, *, max_seconds: float) -> int | None:
        """Walk over the stream and return the difference to the ledger; None where that takes longer."""

    async def sweep(self, *, min_idle_ms: int) -> list[str]:
        """Remove dead consumers; return their names."""


class LedgerWatch:
    """Shows the difference between ledger and stream, and removes the consumers of killed indexers.

    Args:
        stream: what is watched.
        difference: shows the hits by which ledger and stream differ; 0 in indexers that do not look.
        name: of this indexer, as the publisher of the as-of.
    """

    def __init__(self, stream: Watched, difference: Gauge, *, name: str) -> None:
        self._stream = stream
        self._difference = difference
        self._name = name

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await self.look_once()
            await asyncio.sleep(_INTERVAL_SECONDS)

    async def look_once(self) -> None:
        """Look, if it is up to this indexer."""
        try:
            if not await self._stream.is_publisher(self._name):
                self._difference.set(0)  # whoever looks now shows it
                return
            await self._compare()
            if removed := await self._stream.sweep(min_idle_ms=_CONSUMER_SILENCE_MS):
                log.info("removed consumers of indexers that are gone", consumers=sorted(removed))
        except StreamUnavailable:
            return  # the lanes report it
        except Exception:  # the top of a loop: whatever it is, the next look may succeed
            log.exception("the ledger could not be compared with the stream")

    async def _compare(self) -> None:
        """Compare ledger and stream, if that is cheap now; otherwise what was found last still stands."""
        if (await self._stream.status()).entries > _WALK_MAX_ENTRIES:
            return
        difference = await self._stream.audit_backlog(max_seconds=_WALK_MAX_SECONDS)
        if difference is None:
            return
        if difference:
            log.error("ledger and stream differ", hits=difference)
        self._difference.set(difference)
