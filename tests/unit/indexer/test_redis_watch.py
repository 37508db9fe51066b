"""What in Redis's own settings may lose hits is told by an indexer, too."""

from __future__ import annotations

import pytest
from hitcounter.errors import StreamUnavailable
from hitcounter.health import Readiness
from hitcounter.ledger import StreamMemory
from hitcounter_indexer.redis_watch import check_redis


class FakeRedis:
    """Is as it is told to be."""

    def __init__(self) -> None:
        self.now: StreamMemory | Exception = StreamMemory(10, 100)

    async def memory(self) -> StreamMemory:
        if isinstance(self.now, Exception):
            raise self.now
        return self.now


async def test_an_indexer_warns_of_a_redis_that_may_lose_hits_and_stays_ready(
    capsys: pytest.CaptureFixture[str],
) -> None:
    redis, readiness = FakeRedis(), Readiness()
    await check_redis(redis, readiness)
    assert readiness.warnings == {}
    redis.now = StreamMemory(10, 100, policy_fault="Redis may evict hits", is_aof_enabled=False)
    for _ in range(2):
        await check_redis(redis, readiness)
    assert readiness.is_ready
    assert readiness.warnings["redis"].startswith("Redis may evict hits; Redis has appendonly no")
    assert capsys.readouterr().out.count("Redis may lose hits") == 1
    redis.now = StreamMemory(10, 100)
    await check_redis(redis, readiness)
    assert readiness.warnings == {}


@pytest.mark.parametrize("error", [StreamUnavailable("away"), ValueError("a bug")])
async def test_a_check_that_fails_changes_nothing(error: Exception) -> None:
    redis, readiness = FakeRedis(), Readiness()
    readiness.warn("redis", ["Redis may evict hits"])
    redis.now = error
    await check_redis(redis, readiness)
    assert readiness.warnings == {"redis": "Redis may evict hits"}
