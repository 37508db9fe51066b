"""Telling at /readyz and in the log that Redis's own settings may lose hits. The API refuses hits then; indexers go on.

What was taken is counted all the sooner the longer the indexers work: they stay ready, with a warning.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from hitcounter.errors import StreamUnavailable
from hitcounter.health import Readiness
from hitcounter.ledger import StreamMemory
from hitcounter.logs import get_logger

from hitcounter_indexer.pacing import REDIS

_INTERVAL_SECONDS: Final = 5.0

log = get_logger()


class Watched(Protocol):
    """What the watch needs of the stream."""

    async def memory(self) -> StreamMemory:
        """Look at Redis itself."""


async def watch_redis(stream: Watched, readiness: Readiness) -> None:
    """Look now and then, until cancelled."""
    while True:
        await look_at_redis(stream, readiness)
        await asyncio.sleep(_INTERVAL_SECONDS)


async def look_at_redis(stream: Watched, readiness: Readiness) -> None:
    """Look once, and warn of what may lose hits."""
    try:
        memory = await stream.memory()
    except StreamUnavailable:
        return  # the loop that reads entries tells so
    except Exception:  # the top of a loop: whatever it is, the next look may succeed
        log.exception("Redis could not be watched")
        return
    if readiness.warn(REDIS, memory.faults):
        log.error("Redis may lose hits", reason="; ".join(memory.faults))
