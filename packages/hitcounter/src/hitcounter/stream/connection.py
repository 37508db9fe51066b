"""The connection to Redis that all roles of one process share."""

from __future__ import annotations

from importlib import resources

from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import ResponseError

from hitcounter.redis_client import build_pool, check_memory_policy
from hitcounter.settings import RedisSettings
from hitcounter.stream.keys import Keys


class StreamConnection:
    """A client with a pool of connections, and what is known about this Redis.

    Attributes:
        keys: the names of the keys.
        redis: the client. It raises errors of redis-py.
        policy: the maxmemory-policy when it was last read; empty if Redis does not show it, None before the first read.
    """

    def __init__(self, settings: RedisSettings) -> None:
        self.keys = Keys(settings.prefix)
        self.redis = Redis.from_pool(build_pool(settings, settings.timeout_seconds))
        self.policy: str | None = None
        self._trusts_hidden_policy = settings.trust_memory_policy

    async def aclose(self) -> None:
        """Close all connections."""
        await self.redis.aclose()

    def load_script(self, name: str) -> AsyncScript:
        """Return a script that can be called. Redis loads it at its first call."""
        return self.redis.register_script(read_script(name))

    def check_policy(self) -> None:
        """Check that Redis did not evict hits when its policy was last read.

        Raises:
            StreamUnavailable: it may evict hits, or does not show whether it does.
        """
        if self.policy is not None:
            check_memory_policy(self.policy, trusts_hidden=self._trusts_hidden_policy)


def read_script(name: str) -> str:
    """Return the text of a script (scripts/*.lua). Its first lines say what it guarantees."""
    return resources.files("hitcounter").joinpath("scripts", f"{name}.lua").read_text()


def is_group_lost(error: ResponseError) -> bool:
    """Return whether the consumer group does not exist. In the error of a pipeline, the command precedes the code."""
    return any(code in str(error) for code in ("NOGROUP", "UNBLOCKED"))
