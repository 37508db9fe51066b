"""The stream of entries in Redis: append, read, reclaim, settle. Delivery is at-least-once.

`append` adds an entry, by one atomic script that also counts its hits in the ledger. `settle` removes it, by another
that acknowledges, deletes and counts. Between the two, an entry is queued (not delivered to a consumer) or in flight
(delivered). The stream has no MAXLEN and no expiry: only `settle` removes entries.

There is a class for each role; the users in Redis that the chart creates have the same roles. All of them use one
connection. The first lines of each script (scripts/*.lua) say what it guarantees. codec.py has the content of an entry.
redis_client.py makes connections and translates the errors of redis-py. No other module uses redis-py, and no other
module has names of keys, fields or groups.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from hitcounter.settings import RedisSettings
from hitcounter.stream.as_of import AsOfRegister
from hitcounter.stream.connection import StreamConnection
from hitcounter.stream.consumer import RECLAIM_MAX_EXAMINED, StreamConsumer
from hitcounter.stream.dead_letters import DeadLetters
from hitcounter.stream.keys import GROUP, Keys
from hitcounter.stream.monitor import StreamMonitor
from hitcounter.stream.producer import StreamProducer

__all__ = [
    "GROUP",
    "RECLAIM_MAX_EXAMINED",
    "AsOfRegister",
    "DeadLetters",
    "HitStream",
    "Keys",
    "StreamConsumer",
    "StreamMonitor",
    "StreamProducer",
    "open_stream",
]


class HitStream:
    """The stream of one installation, by role. A process needs one instance; whoever opened it closes it."""

    def __init__(self, settings: RedisSettings) -> None:
        self._connection = StreamConnection(settings)
        self.keys = self._connection.keys
        self.producer = StreamProducer(self._connection, settings)
        self.consumer = StreamConsumer(self._connection)
        self.as_of = AsOfRegister(self._connection)
        self.dead_letters = DeadLetters(self._connection)
        self.monitor = StreamMonitor(self._connection)

    async def aclose(self) -> None:
        """Close all connections."""
        await self.producer.aclose()
        await self._connection.aclose()


@contextlib.asynccontextmanager
async def open_stream(settings: RedisSettings) -> AsyncIterator[HitStream]:
    """Open the stream of this installation; close its connections at the end. It connects at first use."""
    stream = HitStream(settings)
    try:
        yield stream
    finally:
        await stream.aclose()
