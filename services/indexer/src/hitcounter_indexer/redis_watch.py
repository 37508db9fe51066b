"""Warns in /readyz and in the log if the settings of Redis may lose hits.

The API refuses hits then. Indexers continue and stay ready, so that accepted hits are counted soon.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from hitcounter.errors import StreamUnavailable
from hitcounter.health import Readiness
from hitcounter.ledger import StreamMemory
from hitcounter.logs import get_logger

from hitcounter_indexer.conditions import REDIS

_INTERVAL_SECONDS: Final = 5.0

log = get_logger()


class Watched(Protocol):
    """What the watch needs from the stream."""

    async def memory(self) -> StreamMemory:
        """Return memory and persistence of Redis."""


async def watch_redis(stream: Watched, readiness: Readiness) -> None:
    """Check every few seconds, until cancelled."""
    while True:
        await check_redis(stream, readiness)
        await asyncio.sleep(_INTERVAL_SECONDS)


async def check_redis(stream: Watched, readiness: Readiness) -> None:
    """Check once, and warn of settings that may lose hits."""
    try:
        memory = await stream.memory()
    except StreamUnavailable:
        return  # the loop that reads entries reports it
    except Exception:  # the top of a loop: whatever it is, the next check may succeed
        log.exception("Redis could not be watched")
        return
    if readiness.warn(REDIS, memory.faults):
        log.error("Redis may lose hits", reason="; ".join(memory.faults))
