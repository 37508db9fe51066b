"""The role of the API: it adds hit batches to the stream."""

from __future__ import annotations

import contextlib
from typing import Final

from hitcounter.codec import HitBatch, encode
from hitcounter.entries import Durability
from hitcounter.errors import Outcome, StreamUnavailable
from hitcounter.redis_client import AcceptConnection, build_pool, is_demoted
from hitcounter.settings import RedisSettings
from hitcounter.stream.connection import StreamConnection, read_script

_SEQUENCE_TTL_MS: Final = 24 * 60 * 60 * 1000
"""How long the last sequence of a producer is kept: a day after its last batch. Retries take about a second."""


class StreamProducer:
    """Adds entries, over a connection of its own for each durability."""

    def __init__(self, connection: StreamConnection, settings: RedisSettings) -> None:
        self._connection = connection
        self._keys = connection.keys
        self._redis = connection.redis
        accept = read_script("accept")
        self._accept_connections = {
            durability: AcceptConnection(
                build_pool(settings, None), accept, durability, trusts_hidden_policy=settings.trust_memory_policy
            )
            for durability in Durability
        }

    async def aclose(self) -> None:
        """Close its own connections."""
        for connection in self._accept_connections.values():
            await connection.aclose()

    async def append(
        self, batch: HitBatch, *, timeout_seconds: float, durability: Durability = Durability.MEMORY
    ) -> None:
        """Add the batch as one entry and count its hits. Idempotent: repeated calls for one batch add it once.

        Each durability needs its own producer, and only one call at a time. Send the next batch of a producer only
        when this one has succeeded or been given up.

        Raises:
            StreamUnavailable: ``outcome`` says whether the entry may be in the stream after all.
            DurabilityUnavailable: this Redis does not support the durability; nothing was added.
        """
        self._connection.check_policy()
        try:
            payload = encode(batch)
        except Exception as error:  # a bug; the error must say that nothing was sent
            cause = f"{type(error).__name__}: {error}"
            raise StreamUnavailable("the hits cannot be encoded", cause=cause, outcome=Outcome.REFUSED) from error
        keys = (self._keys.stream, self._keys.ledger, self._keys.producer(batch.producer))
        arguments = (payload, len(batch), batch.sequence, _SEQUENCE_TTL_MS)
        try:
            await self._accept_connections[durability].accept(keys, arguments, timeout_seconds=timeout_seconds)
        except StreamUnavailable as error:
            if is_demoted(error.__cause__):
                # A demoted Redis still answers reads, so the other connections would not notice: close them, too.
                with contextlib.suppress(Exception):  # it must not replace the error that says that nothing was taken
                    await self._redis.connection_pool.disconnect(inuse_connections=False)
            raise
