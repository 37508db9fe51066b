"""Accepting: each batch once, entry and booking together, and never into a Redis that might lose it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hitcounter.entries import Durability, Settlement
from hitcounter.errors import DurabilityUnavailable, Outcome, StreamUnavailable
from hitcounter.hits import BATCH_MAX_HITS
from hitcounter.ledger import Ledger
from hitcounter.settings import RedisSettings
from hitcounter.stream import HitStream, open_stream
from hitcounter_devstack import RedisServer, free_port
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.crc import key_slot

from tests.integration.stores.conftest import Producer, append, patient_settings
from tests.support.proxy import FaultyWire


async def refusal(stream: HitStream, producer: Producer, timeout_seconds: float = 5) -> StreamUnavailable:
    with pytest.raises(StreamUnavailable) as caught:
        await stream.producer.append(producer.batch(), timeout_seconds=timeout_seconds)
    return caught.value


# ── once ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_batch_is_one_entry_and_its_hits_are_booked(stream: HitStream, producer: Producer) -> None:
    await append(stream, producer.batch("a", "b", "a"))
    status = await stream.monitor.status()
    assert status.ledger == Ledger(accepted=3)
    assert status.entries == 1


async def test_batch_of_the_most_hits_is_accepted(stream: HitStream, producer: Producer) -> None:
    await append(stream, producer.batch(*[f"{number:0512d}" for number in range(BATCH_MAX_HITS)]))
    assert (await stream.monitor.status()).ledger.accepted == BATCH_MAX_HITS


async def test_batch_that_is_appended_again_is_accepted_once(stream: HitStream, producer: Producer) -> None:
    batch = producer.batch("a", "b")
    await append(stream, batch, batch, batch)
    status = await stream.monitor.status()
    assert (status.ledger.accepted, status.entries) == (2, 1)


async def test_batch_whose_answer_was_lost_can_be_appended_again_and_is_accepted_once(
    redis: RedisServer, redis_settings: RedisSettings, stream: HitStream, producer: Producer
) -> None:
    with FaultyWire(redis.url) as wire:
        through_wire = patient_settings(wire.url, redis_settings.prefix)
        async with open_stream(through_wire) as distant:
            batch = producer.batch("a", "b")
            wire.swallow_answers_to(b"EVALSHA")
            with pytest.raises(StreamUnavailable) as caught:
                await append(distant, batch)
            assert caught.value.outcome is Outcome.UNKNOWN
            assert (await stream.monitor.status()).ledger.accepted == 2
            await append(distant, batch)
            await append(distant, producer.batch("c"))
    assert (await stream.monitor.status()).ledger.accepted == 3


async def test_batch_is_known_again_after_it_was_settled(stream: HitStream, producer: Producer) -> None:
    batch = producer.batch("a")
    await append(stream, batch)
    await stream.consumer.ensure_group()
    (entry,) = await stream.consumer.read("me", count=10, block_ms=0)
    await stream.consumer.settle([Settlement(entry.entry_id, indexed=1)])
    await append(stream, batch)
    assert (await stream.monitor.status()).ledger == Ledger(accepted=1, indexed=1)


async def test_batch_that_comes_late_after_its_successor_is_refused(stream: HitStream, producer: Producer) -> None:
    late, successor = producer.batch("late"), producer.batch("successor")
    await append(stream, successor)
    with pytest.raises(StreamUnavailable, match="STALESEQUENCE") as caught:
        await append(stream, late)
    assert caught.value.outcome is Outcome.REFUSED
    assert (await stream.monitor.status()).ledger.accepted == 1


async def test_producers_do_not_mind_each_others_sequences(stream: HitStream) -> None:
    for name in (b"a" * 12, b"b" * 12):
        await append(stream, Producer(name).batch("1"))
    assert (await stream.monitor.status()).ledger.accepted == 2


async def test_last_sequence_is_remembered_for_a_day_after_its_last_use(
    stream: HitStream, raw: Redis, producer: Producer
) -> None:
    batch = producer.batch()
    await append(stream, batch)
    key, a_day_ms = stream.keys.producer(producer.name), 24 * 60 * 60 * 1000
    assert a_day_ms - 60_000 < await raw.pttl(key) <= a_day_ms
    await raw.pexpire(key, 1000)
    await append(stream, batch)
    assert await raw.pttl(key) > a_day_ms - 60_000


async def test_installations_with_other_prefixes_do_not_see_each_other(
    redis: RedisServer, stream: HitStream, producer: Producer
) -> None:
    await append(stream, producer.batch())
    other = patient_settings(redis.url, stream.keys.prefix + "x")
    async with open_stream(other) as neighbour:
        assert (await neighbour.monitor.status()).ledger == Ledger()


async def test_every_key_is_in_one_hash_slot(stream: HitStream, raw: Redis, producer: Producer) -> None:
    await append(stream, producer.batch())
    await stream.as_of.sample("me", lease_ms=1000)
    await stream.as_of.publish(1)
    names = [key async for key in raw.scan_iter(match=f"*{stream.keys.prefix}*")]
    assert len(names) == 5
    assert len({key_slot(key) for key in names}) == 1


# ── together ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_entry_and_booking_become_visible_in_one_step(
    stream: HitStream, other_stream: HitStream, producer: Producer
) -> None:
    async def append_many() -> None:
        for _ in range(300):
            await append(stream, producer.batch("a", "b"))

    appending = asyncio.create_task(append_many())
    looks = 0
    while not appending.done():
        status = await other_stream.monitor.status()
        assert status.ledger.accepted == 2 * status.entries
        looks += 1
    await appending
    assert looks > 10


async def test_appends_are_never_trimmed(stream: HitStream, producer: Producer) -> None:
    for _ in range(1000):
        await append(stream, producer.batch())
    assert (await stream.monitor.status()).entries == 1000


# ── Redis is not there, or not fit ──────────────────────────────────────────────────────────────────────────────────


async def test_redis_that_is_not_there_refuses(name: str, producer: Producer) -> None:
    settings = patient_settings(f"redis://127.0.0.1:{free_port()}/0", name)
    async with open_stream(settings) as stream:
        error = await refusal(stream, producer)
        assert error.outcome is Outcome.REFUSED
        assert error.is_worth_retrying
        with pytest.raises(StreamUnavailable, match="does not answer"):
            await stream.monitor.ping()
        with pytest.raises(StreamUnavailable, match="does not answer"):
            await stream.monitor.status()


async def test_redis_that_hangs_is_given_up_in_time_with_the_outcome_unknown(
    redis: RedisServer, stream: HitStream, other_stream: HitStream, producer: Producer
) -> None:
    await append(stream, producer.batch())
    batch = producer.batch()
    redis.pause()
    try:
        start = asyncio.get_running_loop().time()
        with pytest.raises(StreamUnavailable) as caught:
            await stream.producer.append(batch, timeout_seconds=0.2)
        assert asyncio.get_running_loop().time() - start < 4  # a command without a limit of its own has 5 s
        assert caught.value.outcome is Outcome.UNKNOWN
    finally:
        redis.resume()
    await append(stream, batch)
    assert (await other_stream.monitor.status()).ledger.accepted == 2


async def test_cancelled_append_leaves_no_answer_behind_for_the_next_one(
    redis: RedisServer, stream: HitStream, producer: Producer
) -> None:
    await append(stream, producer.batch())
    redis.pause()
    try:
        appending = asyncio.create_task(append(stream, producer.batch()))
        await asyncio.sleep(0.05)
        appending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await appending
    finally:
        redis.resume()
    await append(stream, producer.batch())
    assert (await stream.monitor.status()).entries in (2, 3)


async def test_script_that_redis_forgot_costs_one_retry(stream: HitStream, raw: Redis, producer: Producer) -> None:
    await append(stream, producer.batch())
    await raw.script_flush()
    batch = producer.batch()
    with pytest.raises(StreamUnavailable) as caught:
        await append(stream, batch)
    assert caught.value.outcome is Outcome.REFUSED
    await append(stream, batch)
    assert (await stream.monitor.status()).ledger.accepted == 2


@pytest.fixture
async def evicting_redis(raw: Redis) -> AsyncIterator[None]:
    """A Redis that is set to throw keys away."""
    await raw.config_set("maxmemory-policy", "allkeys-lru")
    yield
    await raw.config_set("maxmemory-policy", "noeviction")


@pytest.mark.usefixtures("evicting_redis")
async def test_redis_that_may_throw_hits_away_is_refused_with_the_setting_to_change(
    stream: HitStream, raw: Redis, producer: Producer
) -> None:
    error = await refusal(stream, producer)
    assert "allkeys-lru" in str(error)
    assert "noeviction" in str(error)
    assert (error.outcome, error.is_worth_retrying) == (Outcome.REFUSED, False)
    with pytest.raises(StreamUnavailable, match="allkeys-lru"):
        await stream.monitor.ping()
    await raw.config_set("maxmemory-policy", "noeviction")
    await stream.monitor.ping()
    await append(stream, producer.batch())


async def test_policy_that_changes_under_an_open_connection_is_refused_from_the_next_check_on(
    stream: HitStream, raw: Redis, producer: Producer
) -> None:
    await append(stream, producer.batch())
    await raw.config_set("maxmemory-policy", "volatile-ttl")
    try:
        assert "volatile-ttl" in (await stream.monitor.memory()).policy_fault
        error = await refusal(stream, producer)
        assert (error.outcome, error.is_worth_retrying) == (Outcome.REFUSED, False)
    finally:
        await raw.config_set("maxmemory-policy", "noeviction")
    assert (await stream.monitor.memory()).policy_fault == ""
    await append(stream, producer.batch())
    assert (await stream.monitor.status()).ledger.accepted == 2


@pytest.fixture
async def blind_settings(redis: RedisServer, redis_settings: RedisSettings, raw: Redis) -> AsyncIterator[RedisSettings]:
    """A user who may do everything but look at Redis, as some providers have it."""
    name = f"blind-{redis_settings.prefix}"
    await raw.acl_setuser(name, enabled=True, nopass=True, keys=["*"], commands=["+@all", "-info"])
    yield redis_settings.model_copy(update={"username": name, "password": SecretStr("any")})
    await raw.acl_deluser(name)


async def test_redis_that_does_not_show_its_policy_is_refused_with_the_setting_that_trusts_it(
    blind_settings: RedisSettings, producer: Producer
) -> None:
    async with open_stream(blind_settings) as stream:
        error = await refusal(stream, producer)
        assert "HITCOUNTER_REDIS__TRUST_MEMORY_POLICY" in str(error)
        assert error.outcome is Outcome.REFUSED
        assert (await stream.monitor.memory()).policy_fault == str(error)
    trusting = blind_settings.model_copy(update={"trust_memory_policy": True})
    async with open_stream(trusting) as stream:
        await append(stream, producer.batch())
        assert (await stream.monitor.memory()).faults == []
        await append(stream, producer.batch())


@pytest.mark.usefixtures("evicting_redis")
async def test_policy_that_is_shown_needs_no_trust_and_gets_none(
    redis_settings: RedisSettings, producer: Producer
) -> None:
    async with open_stream(redis_settings.model_copy(update={"trust_memory_policy": True})) as stream:
        assert "allkeys-lru" in str(await refusal(stream, producer))


async def test_connection_that_redis_closed_while_it_was_idle_costs_no_attempt(
    stream: HitStream, raw: Redis, producer: Producer
) -> None:
    await append(stream, producer.batch())
    await raw.client_kill_filter(_type="normal", skipme=True)
    await raw.ping()
    await asyncio.sleep(0.05)  # the end of the connection is on its way
    await append(stream, producer.batch())
    assert (await stream.monitor.status()).ledger.accepted == 2


@pytest.mark.parametrize("key", ["stream", "ledger", "producer"])
async def test_key_of_another_type_is_an_error_in_our_words_and_nothing_is_taken(
    stream: HitStream, raw: Redis, producer: Producer, key: str
) -> None:
    names = {
        "stream": stream.keys.stream,
        "ledger": stream.keys.ledger,
        "producer": stream.keys.producer(producer.name),
    }
    await raw.lpush(names[key], "somebody else's")
    error = await refusal(stream, producer)
    assert "accept a batch" in str(error)
    assert "WRONGTYPE" in str(error)
    assert error.outcome is Outcome.REFUSED
    await raw.delete(names[key])
    status = await stream.monitor.status()
    assert (status.entries, status.ledger) == (0, Ledger())


async def test_password_that_redis_does_not_take_is_an_error_in_our_words(
    redis: RedisServer, name: str, producer: Producer
) -> None:
    url = redis.url.replace("redis://", "redis://nobody:wrong@")
    async with open_stream(patient_settings(url, name)) as stream:
        error = await refusal(stream, producer)
        assert error.outcome is Outcome.REFUSED
        assert "wrong" not in str(error).lower().replace("wrongpass", "")


# ── durability ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_batch_that_must_be_on_disk_is_synced_or_refused_by_a_redis_that_cannot_say(
    redis: RedisServer, stream: HitStream, producer: Producer
) -> None:
    batch = producer.batch()
    if redis.version.startswith("7.0"):
        with pytest.raises(DurabilityUnavailable, match=r"7\.2"):
            await stream.producer.append(batch, timeout_seconds=5, durability=Durability.DISK)
        assert (await stream.monitor.status()).ledger.accepted == 0
    else:
        await stream.producer.append(batch, timeout_seconds=5, durability=Durability.DISK)
        await stream.producer.append(batch, timeout_seconds=5, durability=Durability.DISK)
        assert (await stream.monitor.status()).ledger.accepted == 1


async def test_killed_redis_comes_back_with_all_that_it_accepted(
    redis: RedisServer, tmp_path_factory: pytest.TempPathFactory, name: str, producer: Producer
) -> None:
    folder = tmp_path_factory.mktemp("redis")
    # As the chart runs it. With `everysec` a kill during a slow sync may lose up to two seconds (docs/guarantees.md).
    with RedisServer(folder, binary=redis.binary, options={"appendfsync": "always"}) as server:
        async with open_stream(patient_settings(server.url, name)) as stream:
            first, second = producer.batch("a"), producer.batch("b", "c")
            await append(stream, first, second)
            await stream.consumer.ensure_group()
            (delivered,) = await stream.consumer.read("me", count=1, block_ms=0)
            before = (await stream.monitor.status()).ledger

            server.kill()
            server.start().wait_ready()

            async with open_stream(patient_settings(server.url, name)) as again:
                assert (await again.monitor.status()).ledger == before == Ledger(accepted=3)
            await append(stream, second)
            (reclaimed,) = await stream.consumer.reclaim("other", min_idle_ms=0, count=10)
            assert reclaimed.entry_id == delivered.entry_id
            assert [entry.hits for entry in await stream.consumer.read("other", count=10, block_ms=0)] == [2]
            assert (await stream.monitor.audit()).difference == 0
