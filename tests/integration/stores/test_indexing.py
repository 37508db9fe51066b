"""From the stream into the index, on real stores: every hit ends once, whatever dies or refuses in between.

The oldest and the newest of both lines stand for the matrix, which the other modules of this level run in full.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from elasticsearch import AsyncElasticsearch
from hitcounter.codec import encode
from hitcounter.elastic import Indices, open_client
from hitcounter.hits import DAY_MS, Hit
from hitcounter.ledger import Ledger
from hitcounter.settings import ElasticsearchSettings, IndexSettings
from hitcounter.stream import GROUP, HitStream, open_stream
from hitcounter.v1.hit_pb2 import HitBatch as HitBatchMessage
from hitcounter_devstack import ElasticsearchServer, RedisServer, free_port
from hitcounter_indexer.conditions import AS_OF
from redis.asyncio import Redis

from tests.integration.stores.conftest import NOW_MS, TODAY, Producer, append, count, patient_settings
from tests.integration.stores.indexers import Indexers, assert_balanced
from tests.integration.stores.waiting import until
from tests.support.proxy import FaultyWire


@pytest.fixture(params=["newest", "oldest"])
def age(request: pytest.FixtureRequest) -> str:
    age: str = request.param
    return age


@pytest.fixture
def redis(request: pytest.FixtureRequest, age: str) -> RedisServer:
    server: RedisServer = request.getfixturevalue("redis_server" if age == "newest" else "redis_server_7")
    return server


@pytest.fixture
def elasticsearch(request: pytest.FixtureRequest, age: str) -> ElasticsearchServer:
    name = "elasticsearch_server_9" if age == "newest" else "elasticsearch_server"
    server: ElasticsearchServer = request.getfixturevalue(name)
    return server


@pytest.fixture
def indexers(stream: HitStream, client: AsyncElasticsearch, indices: Indices) -> Indexers:
    return Indexers(stream, client, indices)


# ── counting ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_every_hit_is_counted_once_and_the_ledger_balances(
    indexers: Indexers, stream: HitStream, client: AsyncElasticsearch, name: str, producer: Producer
) -> None:
    for number in range(50):
        await append(stream, producer.batch("hot", "hot", f"id-{number % 5}", time_ms=NOW_MS - number))
    assert await indexers.drain() == Ledger(accepted=150, indexed=150)
    assert await count(client, name, term={"id": "hot"}) == 100
    assert [await count(client, name, term={"id": f"id-{number}"}) for number in range(5)] == [10] * 5
    await assert_balanced(stream)


async def test_hits_of_several_days_in_one_batch_are_counted_in_their_own_days(
    indexers: Indexers, stream: HitStream, client: AsyncElasticsearch, name: str, producer: Producer
) -> None:
    await append(stream, producer.batch_of(*[Hit("a", NOW_MS - age * DAY_MS) for age in range(4)]))
    await indexers.drain()
    days = ("2026.11.21", "2026.11.22", "2026.11.23", "2026.11.24")
    await client.indices.refresh(index=f"{name}-*")
    assert [(await client.count(index=f"{name}-{day}"))["count"] for day in days] == [1, 1, 1, 1]


async def test_key_that_was_sent_again_is_counted_once_and_booked_as_duplicate(
    indexers: Indexers, stream: HitStream, client: AsyncElasticsearch, name: str, producer: Producer
) -> None:
    hit = Hit("a", NOW_MS, 7, "order-17")
    await append(stream, producer.batch_of(hit, hit), producer.batch_of(hit))
    await indexers.drain()
    await append(stream, producer.batch_of(Hit("b", NOW_MS), hit))
    assert await indexers.drain() == Ledger(accepted=5, indexed=2, duplicate=3)
    assert await count(client, name, term={"id": "a"}) == 7


async def test_many_indexers_at_once_share_the_entries_and_count_each_hit_once(
    indexers: Indexers, stream: HitStream, client: AsyncElasticsearch, name: str, producer: Producer
) -> None:
    for _ in range(200):
        await append(stream, producer.batch(*"abcde"))
    team = [indexers.build(bulk_max_documents=50) for _ in range(4)]
    running = [asyncio.create_task(indexer.run()) for indexer in team]

    async def is_drained() -> bool:
        return (await stream.monitor.status()).entries == 0

    await until(is_drained)
    for indexer in team:
        indexer.stop()
    await asyncio.gather(*running)
    ledger = (await stream.monitor.status()).ledger
    assert ledger.indexed + ledger.duplicate == ledger.accepted == 1000
    assert await count(client, name) == 1000


async def test_as_of_covers_what_is_countable(
    indexers: Indexers, stream: HitStream, indices: Indices, client: AsyncElasticsearch, name: str, producer: Producer
) -> None:
    publisher = indexers.build_publisher(indices)
    await append(stream, producer.batch("a", time_ms=time.time_ns() // 1_000_000))
    waiting = await stream.monitor.status()
    assert waiting.oldest_ms is not None
    assert await publisher.publish_once() == waiting.oldest_ms
    await indexers.drain()
    as_of_ms = await publisher.publish_once()
    assert as_of_ms is not None
    assert as_of_ms > waiting.oldest_ms
    assert (await client.count(index=name))["count"] == 1  # without our refresh


# ── death between bulk and settle ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def wire(redis: RedisServer) -> Iterator[FaultyWire]:
    with FaultyWire(redis.url) as wire:
        yield wire


@pytest.fixture
async def wired_stream(wire: FaultyWire, name: str) -> AsyncIterator[HitStream]:
    async with open_stream(patient_settings(wire.url, name)) as stream:
        yield stream


async def test_cycle_that_dies_between_bulk_and_settle_is_finished_by_another_and_counts_nothing_twice(
    indexers: Indexers,
    stream: HitStream,
    wired_stream: HitStream,
    wire: FaultyWire,
    client: AsyncElasticsearch,
    name: str,
    producer: Producer,
) -> None:
    await append(stream, producer.batch("a", "a", "b"), producer.batch_of(Hit("a", NOW_MS, 5, "order-17")))
    dying = indexers.build(wired_stream)
    await wired_stream.consumer.ensure_group()
    wire.hold_requests_with(b"EVALSHA")  # settle is the next script
    turn = asyncio.create_task(dying.run_once())
    await until(lambda: asyncio.to_thread(wire.held.wait, 10))
    await kill(turn)
    assert await count(client, name) == 8
    assert (await stream.monitor.status()).ledger == Ledger(accepted=4)

    assert await indexers.drain() == Ledger(accepted=4, duplicate=4)
    assert await count(client, name) == 8
    await assert_balanced(stream)


async def kill(turn: asyncio.Task[int]) -> None:
    """Cancel the turn until it is gone: before Python 3.12 redis-py's wait_for may swallow a cancellation."""
    while not turn.done():
        turn.cancel()
        await asyncio.wait([turn], timeout=0.2)
    assert turn.cancelled()


async def test_cycle_that_dies_before_its_bulk_is_done_by_another(
    indexers: Indexers, stream: HitStream, client: AsyncElasticsearch, name: str, producer: Producer
) -> None:
    await append(stream, producer.batch("a", "b"))
    await stream.consumer.ensure_group()
    await stream.consumer.read("died", count=10, block_ms=0)
    assert await indexers.drain() == Ledger(accepted=2, indexed=2)
    assert await count(client, name) == 2


async def test_indexer_that_was_taken_for_dead_and_settles_late_books_nothing_twice(
    indexers: Indexers, stream: HitStream, wired_stream: HitStream, wire: FaultyWire, producer: Producer
) -> None:
    await append(stream, producer.batch("a", "b"))
    slow = indexers.build(wired_stream)
    await wired_stream.consumer.ensure_group()
    wire.hold_requests_with(b"EVALSHA")
    turn = asyncio.create_task(slow.run_once())
    await until(lambda: asyncio.to_thread(wire.held.wait, 10))
    ledger = await indexers.drain()
    wire.heal()
    wire.cut()
    assert await turn == 1  # the settling was held up; repeated, it finds nothing of its own any more
    assert (await stream.monitor.status()).ledger == ledger == Ledger(accepted=2, duplicate=2)


async def test_group_that_was_lost_brings_entries_back_and_counts_nothing_twice(
    indexers: Indexers, stream: HitStream, raw: Redis, client: AsyncElasticsearch, name: str, producer: Producer
) -> None:
    await append(stream, producer.batch("a"), producer.batch("b"))
    await stream.consumer.ensure_group()
    first, _ = await stream.consumer.read("someone", count=10, block_ms=0)
    await raw.xgroup_destroy(stream.keys.stream, GROUP)
    ledger = await indexers.drain()
    assert ledger.indexed == ledger.accepted == 2
    assert first.entry_id
    assert await count(client, name) == 2


# ── the as-of ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_publisher_that_reaches_redis_but_not_elasticsearch_leaves_the_as_of_to_one_that_does(
    indexers: Indexers, stream: HitStream, indices: Indices, name: str, index_settings: IndexSettings
) -> None:
    """Issue 14, 5: it kept the lease for ever."""
    async with open_client(ElasticsearchSettings(url=f"http://127.0.0.1:{free_port()}")) as nowhere:
        sick = indexers.build_publisher(Indices(nowhere, name, index_settings))
        running = [asyncio.create_task(sick.run())]

        async def has_failed() -> bool:
            return AS_OF in indexers.readiness.warnings

        await until(has_failed)
        healthy = indexers.build_publisher(indices)
        running.append(asyncio.create_task(healthy.run()))

        async def is_published() -> bool:
            return (await stream.monitor.status()).as_of_ms is not None

        await until(is_published)
        for publisher in (sick, healthy):
            publisher.stop()
        await asyncio.gather(*running)


# ── refusals ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_day_that_is_closed_delays_nobody_and_makes_no_dead_letters(
    indexers: Indexers, stream: HitStream, client: AsyncElasticsearch, name: str, producer: Producer
) -> None:
    await append(stream, producer.batch("before", time_ms=NOW_MS))
    await indexers.drain()
    await client.indices.close(index=f"{name}-{TODAY}")
    await append(stream, producer.batch("kept"), producer.batch("others", time_ms=NOW_MS - DAY_MS))
    indexer = indexers.build(max_deliveries=2)
    running = asyncio.create_task(indexer.run())

    async def is_left() -> bool:
        return f"{name}-{TODAY}" in indexers.readiness.warnings

    await until(is_left)
    assert "index_closed_exception" in indexers.readiness.warnings[f"{name}-{TODAY}"]
    await append(stream, *[producer.batch("more", time_ms=NOW_MS - DAY_MS) for _ in range(10)])

    async def are_counted() -> bool:
        return (await stream.monitor.status()).ledger == Ledger(accepted=13, indexed=12)

    await until(are_counted)
    await client.indices.open(index=f"{name}-{TODAY}")

    async def is_drained() -> bool:
        return (await stream.monitor.status()).entries == 0

    await until(is_drained)
    indexer.stop()
    await running
    ledger = (await stream.monitor.status()).ledger
    assert (ledger.indexed + ledger.duplicate, ledger.dead) == (13, 0)
    assert indexers.readiness.warnings == {}
    assert await count(client, name) == 13


async def test_wiped_elasticsearch_gets_its_indices_back_and_the_cycle_goes_on(
    indexers: Indexers, stream: HitStream, client: AsyncElasticsearch, name: str, producer: Producer
) -> None:
    await append(stream, producer.batch("before"))
    indexer = indexers.build()
    await indexer.run_until_empty()
    found = await client.indices.get(index=f"{name}-*")
    await client.indices.delete(index=sorted(found.body))
    await append(stream, producer.batch("after"))
    assert await indexer.run_until_empty() == 1
    assert (await stream.monitor.status()).ledger == Ledger(accepted=2, indexed=2)
    assert await count(client, name, term={"id": "after"}) == 1


async def test_full_redis_is_drained_and_takes_hits_again(
    indexers: Indexers, stream: HitStream, raw: Redis, client: AsyncElasticsearch, name: str, producer: Producer
) -> None:
    await append(stream, producer.batch("a", "b"))
    await raw.config_set("maxmemory", "1")
    try:
        assert await indexers.drain() == Ledger(accepted=2, indexed=2)
    finally:
        await raw.config_set("maxmemory", "0")
    await append(stream, producer.batch("c"))
    await indexers.drain()
    assert await count(client, name) == 3


# ── entries that cannot be indexed ──────────────────────────────────────────────────────────────────────────────────


async def test_undecodable_entry_is_a_dead_letter_whole_and_the_ledger_balances(
    indexers: Indexers, stream: HitStream, raw: Redis, client: AsyncElasticsearch, name: str, producer: Producer
) -> None:
    await append(stream, producer.batch("a"))
    damaged = encode(producer.batch("b", "c"))[:-3]
    await raw.xadd(stream.keys.stream, {"batch": damaged, "hits": 2})
    await raw.hincrby(stream.keys.ledger, "accepted", 2)
    await append(stream, producer.batch("d"))
    assert await indexers.drain() == Ledger(accepted=4, indexed=2, dead=2)
    (stored,) = await stream.dead_letters.list_page()
    assert (stored.letter.reason, stored.letter.hits, stored.letter.payload) == ("undecodable", 2, damaged)
    assert await count(client, name) == 2
    await assert_balanced(stream)


async def test_entries_that_others_wrote_delay_nobody(
    indexers: Indexers, stream: HitStream, raw: Redis, producer: Producer
) -> None:
    await raw.xadd(stream.keys.stream, {"greeting": "hello"})
    await append(stream, producer.batch("ours"))
    await raw.xadd(stream.keys.stream, {"batch": b"\xff" * 100, "hits": "9" * 5000})
    await append(stream, producer.batch("ours"))
    await raw.xadd(stream.keys.stream, {"batch": encode(producer.batch("a")), "hits": "0", "positions": "nowhere"})
    await append(stream, producer.batch("ours"))
    assert await indexers.drain() == Ledger(accepted=3, indexed=3)
    assert len(await stream.dead_letters.list_page()) == 3
    assert (await stream.monitor.audit()).difference == 0


async def test_entry_for_a_newer_indexer_stays_pending_until_one_comes(
    indexers: Indexers, stream: HitStream, raw: Redis, client: AsyncElasticsearch, name: str, producer: Producer
) -> None:
    message = HitBatchMessage.FromString(encode(producer.batch("future")))
    message.min_reader = 2
    await raw.xadd(stream.keys.stream, {"batch": message.SerializeToString(), "hits": 1})
    await raw.hincrby(stream.keys.ledger, "accepted", 1)
    await append(stream, producer.batch("present"))
    indexer = indexers.build(max_deliveries=2)
    for _ in range(4):
        await until(indexer.run_until_empty)
    status = await stream.monitor.status()
    assert status.ledger == Ledger(accepted=2, indexed=1)
    (left,) = await stream.consumer.reclaim("newer", min_idle_ms=0, count=10)
    assert left.payload == message.SerializeToString()
    assert await count(client, name) == 1
