"""What a look at the stream tells operators: what is in flight, Redis's memory, and whether the ledger is right."""

from __future__ import annotations

from hitcounter.ledger import Ledger
from hitcounter.stream import HitStream
from redis.asyncio import Redis

from tests.integration.stores.conftest import Producer, append


async def test_entries_are_queued_until_an_indexer_has_them(stream: HitStream, producer: Producer) -> None:
    for _ in range(3):
        await append(stream, producer.batch("a"))
    assert (await stream.status()).entries_in_flight == 0  # there is no group yet
    await stream.ensure_group()
    await stream.read("me", count=2, block_ms=0)
    status = await stream.status()
    assert (status.entries, status.entries_in_flight) == (3, 2)


async def test_memory_is_that_of_the_server_and_its_limit_the_maxmemory(stream: HitStream, raw: Redis) -> None:
    info = await raw.info("memory")
    memory = await stream.memory()
    assert 0.5 < memory.used_bytes / info["used_memory"] < 2
    assert info["maxmemory"] == 0
    assert memory.capacity_bytes == info["total_system_memory"]


async def test_difference_is_what_the_stream_holds_beyond_the_ledger(
    stream: HitStream, producer: Producer, raw: Redis
) -> None:
    await append(stream, producer.batch("a", "b"))
    assert await stream.audit_backlog() == 0
    await raw.hincrby(stream.keys.ledger, next(iter(Ledger.__dataclass_fields__)), 5)
    assert await stream.audit_backlog() == -5
