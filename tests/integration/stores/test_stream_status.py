"""What a look at the stream tells operators: what is in flight, Redis's memory, and whether the ledger is right."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import pytest
from hitcounter.ledger import IndexerWork, Ledger
from hitcounter.stream import GROUP, HitStream
from redis.asyncio import Redis

from tests.integration.stores.conftest import Producer, append


async def test_entries_are_queued_until_an_indexer_has_them(stream: HitStream, producer: Producer) -> None:
    for _ in range(3):
        await append(stream, producer.batch("a"))
    assert (await stream.monitor.status()).entries_in_flight == 0  # there is no group yet
    await stream.consumer.ensure_group()
    await stream.consumer.read("me", count=2, block_ms=0)
    status = await stream.monitor.status()
    assert (status.entries, status.entries_in_flight, status.indexers) == (3, 2, 1)


async def test_consumers_are_counted_whether_or_not_they_have_entries(
    stream: HitStream, raw: Redis, producer: Producer
) -> None:
    await append(stream, producer.batch("a"))
    await stream.consumer.ensure_group()
    await raw.xgroup_create(stream.keys.stream, "another group", "0")
    await raw.xgroup_createconsumer(stream.keys.stream, "another group", "not an indexer")
    for name in ("one", "two", "three"):
        await raw.xgroup_createconsumer(stream.keys.stream, GROUP, name)
    assert (await stream.monitor.status()).indexers == 3


async def test_work_of_several_indexers_is_added_up_beside_a_ledger_that_an_older_version_made(
    stream: HitStream, other_stream: HitStream, raw: Redis
) -> None:
    await raw.hset(stream.keys.ledger, mapping={"accepted": 7, "indexed": 5})
    assert (await stream.monitor.status()).work == IndexerWork()
    await stream.consumer.book_work(IndexerWork(busy_ms=900, hits=5000))
    await other_stream.consumer.book_work(IndexerWork(busy_ms=100, hits=70, pushed_back=3))
    status = await stream.monitor.status()
    assert (status.work, status.ledger) == (IndexerWork(1000, 5070, 3), Ledger(accepted=7, indexed=5))


async def test_work_is_booked_while_redis_is_full(stream: HitStream, raw: Redis) -> None:
    used = (await raw.info("memory"))["used_memory"]
    await raw.config_set("maxmemory", used // 2)
    try:
        await stream.consumer.book_work(IndexerWork(busy_ms=900, pushed_back=50))
    finally:
        await raw.config_set("maxmemory", 0)
    assert (await stream.monitor.status()).work == IndexerWork(busy_ms=900, pushed_back=50)


async def test_audit_is_exact_though_work_is_booked_meanwhile(stream: HitStream) -> None:
    audit = await stream.monitor.audit()
    await stream.consumer.book_work(IndexerWork(busy_ms=1))
    assert replace(audit, after=(await stream.monitor.audit()).after).is_exact


async def test_memory_is_that_of_the_server_and_its_limit_the_maxmemory(stream: HitStream, raw: Redis) -> None:
    info = await raw.info("memory")
    memory = await stream.monitor.memory()
    assert 0.5 < memory.used_bytes / info["used_memory"] < 2
    assert info["maxmemory"] == 0
    assert memory.capacity_bytes == info["total_system_memory"]


async def test_append_only_file_that_is_switched_off_is_seen_and_reported(stream: HitStream, raw: Redis) -> None:
    usual = (await raw.config_get("appendonly"))["appendonly"]
    try:
        await raw.config_set("appendonly", "yes")
        assert ((await stream.monitor.memory()).is_aof_enabled, (await stream.monitor.memory()).faults) == (True, [])
        await raw.config_set("appendonly", "no")
        memory = await stream.monitor.memory()
        assert memory.is_aof_enabled is False
        assert "appendonly no" in memory.faults[0]
        await raw.replicaof("127.0.0.1", 1)  # nobody is there
        memory = await stream.monitor.memory()
        assert (memory.is_aof_enabled, memory.faults) == (None, []), "a replica has none while it gets its first copy"
    finally:
        await raw.replicaof("NO", "ONE")
        await raw.config_set("appendonly", usual or "no")


async def test_keys_that_redis_evicts_are_counted(stream: HitStream, raw: Redis) -> None:
    before = (await stream.monitor.memory()).evicted_keys
    assert before is not None
    try:
        await raw.set(f"{stream.keys.prefix}-victim", bytes(1_000_000))
        used_bytes = (await raw.info("memory"))["used_memory"]
        await raw.config_set("maxmemory-policy", "allkeys-lru")
        await raw.config_set("maxmemory", used_bytes - 100_000)
        memory = await stream.monitor.memory()
    finally:
        await raw.config_set("maxmemory", 0)
        await raw.config_set("maxmemory-policy", "noeviction")
    assert memory.evicted_keys is not None
    assert memory.evicted_keys > before


async def test_difference_is_what_the_stream_holds_beyond_the_ledger(
    stream: HitStream, producer: Producer, raw: Redis
) -> None:
    await append(stream, producer.batch("a", "b"))
    assert await stream.monitor.audit_backlog(max_seconds=5) == 0
    await raw.hincrby(stream.keys.ledger, next(iter(Ledger.__dataclass_fields__)), 5)
    assert await stream.monitor.audit_backlog(max_seconds=5) == -5


async def test_walk_over_large_entries_needs_little_memory_here_and_little_time_at_once_in_redis(
    stream: HitStream, raw: Redis
) -> None:
    for _ in range(10):
        async with raw.pipeline(transaction=False) as pipeline:
            for _ in range(20):
                pipeline.xadd(stream.keys.stream, {"batch": b"x" * 1_000_000, "hits": "7"})
            await pipeline.execute()
    await raw.hincrby(stream.keys.ledger, "accepted", 1400)
    await raw.config_resetstat()
    tracemalloc.start()
    try:
        assert await stream.monitor.audit_backlog(max_seconds=60) == 0
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        await raw.delete(stream.keys.stream)
    assert most_bytes < 2_000_000
    script = (await raw.info("commandstats"))["cmdstat_evalsha"]
    assert script["usec_per_call"] < 20_000


async def test_walk_that_takes_too_long_finds_nothing(stream: HitStream, producer: Producer) -> None:
    await append(stream, producer.batch())
    assert await stream.monitor.audit_backlog(max_seconds=0) is None
    assert (await stream.monitor.audit()).difference == 0


@pytest.mark.parametrize("entries", [499, 500, 501, 1500])
async def test_walk_visits_every_entry_once(stream: HitStream, raw: Redis, entries: int) -> None:
    async with raw.pipeline(transaction=False) as pipeline:
        for _ in range(entries):
            pipeline.xadd(stream.keys.stream, {"batch": "b", "hits": "3"})
        pipeline.xadd(stream.keys.stream, {"hits": "9999999"})  # not a number that we ever write
        pipeline.xadd(stream.keys.stream, {"hits": "three"})
        await pipeline.execute()
    assert (await stream.monitor.audit()).stream_hits == 3 * entries
