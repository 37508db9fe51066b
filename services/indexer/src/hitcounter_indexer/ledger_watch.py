"""Watching the ledger: a walk over the stream now and then, so that a difference is seen before somebody asks for it.

A walk reads every payload, so it is only done while the stream is short. It usually is: that is what indexers are for.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from hitcounter.errors import StreamUnavailable
from hitcounter.ledger import StreamStatus
from hitcounter.logs import get_logger
from prometheus_client import Gauge

_INTERVAL_SECONDS = 30.0
_WALK_MAX_ENTRIES = 1000

log = get_logger()


class Auditable(Protocol):
    """What the watch needs of the stream."""

    async def status(self) -> StreamStatus:
        """Return one consistent look at the stream."""

    async def audit_backlog(self) -> int:
        """Walk over the stream and return the difference to the ledger."""


class LedgerWatch:
    """Shows the difference between ledger and stream."""

    def __init__(self, stream: Auditable, difference: Gauge) -> None:
        self._stream = stream
        self._difference = difference

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await self.look_once()
            await asyncio.sleep(_INTERVAL_SECONDS)

    async def look_once(self) -> None:
        """Compare ledger and stream, if that is cheap now; otherwise what was found last still stands."""
        try:
            if (await self._stream.status()).entries > _WALK_MAX_ENTRIES:
                return
            difference = await self._stream.audit_backlog()
        except StreamUnavailable:
            return  # the lanes report it
        except Exception:  # the top of a loop: whatever it is, the next look may succeed
            log.exception("the ledger could not be compared with the stream")
            return
        if difference:
            log.error("ledger and stream differ", hits=difference)
        self._difference.set(difference)
