"""The role of the indexer that publishes the as-of (completeness time), and the lease that makes it one at a time."""

from __future__ import annotations

from typing import cast

from hitcounter.redis_client import translate_redis_errors
from hitcounter.stream.connection import StreamConnection


class AsOfRegister:
    """Samples the as-of, publishes it, and keeps the lease of the publisher."""

    def __init__(self, connection: StreamConnection) -> None:
        self._keys = connection.keys
        self._redis = connection.redis
        self._sample = connection.load_script("sample")
        self._publish = connection.load_script("publish")

    async def sample(self, publisher: str, *, lease_ms: int) -> int | None:
        """Return the time before which every accepted hit is settled.

        None if another publisher has the lease, or while entry ids are ahead of a clock that was set back.
        """
        with translate_redis_errors("sample the as-of"):
            keys = [self._keys.stream, self._keys.as_of_lease, self._keys.as_of]
            sample = await self._sample(keys, [publisher, lease_ms])
        return None if sample is None else int(sample)

    async def publish(self, as_of_ms: int) -> bool:
        """Publish a sample; the indices must have been refreshed after it. False if a later one is already published.

        It needs no lease: a sample stays true, no matter how long the refresh took.
        """
        with translate_redis_errors("publish the as-of"):
            return bool(await self._publish([self._keys.as_of], [as_of_ms]))

    async def find_publisher(self) -> str | None:
        """Return who has the lease now. Its holder does what one process of an installation should do."""
        with translate_redis_errors("look up the lease"):
            holder = cast("bytes | None", await self._redis.get(self._keys.as_of_lease))
        return None if holder is None else holder.decode(errors="replace")
