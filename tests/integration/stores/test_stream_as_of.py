"""The published as-of: by one indexer at a time, never later than the truth."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hitcounter.entries import Settlement
from hitcounter.errors import StreamUnavailable
from hitcounter.ledger import Ledger, StreamStatus
from hitcounter.stream import HitStream, open_stream
from hitcounter_devstack import RedisServer
from hitcounter_devstack.server import Command
from redis.asyncio import Redis

from tests.integration.stores.conftest import Producer, append, patient_settings
from tests.integration.stores.waiting import until
from tests.support.shifted_clock import ShiftedClock

LONG_LEASE_MS = 60_000


async def redis_time_ms(raw: Redis) -> int:
    seconds, microseconds = await raw.time()
    return int(seconds) * 1000 + int(microseconds) // 1000


# ── samples ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_sample_of_an_empty_stream_is_the_present_by_redis_clock(stream: HitStream, raw: Redis) -> None:
    before_ms = await redis_time_ms(raw)
    sample_ms = await stream.as_of.sample("me", lease_ms=LONG_LEASE_MS)
    assert sample_ms is not None
    assert before_ms <= sample_ms <= await redis_time_ms(raw)


async def test_sample_is_the_time_of_the_oldest_entry_that_is_not_settled(
    stream: HitStream, producer: Producer
) -> None:
    await stream.consumer.ensure_group()
    await append(stream, producer.batch("a"), producer.batch("b"))
    first, second = await stream.consumer.read("me", count=10, block_ms=0)
    for settled, oldest in ((None, first), (first, second)):
        if settled:
            await stream.consumer.settle([Settlement(settled.entry_id, indexed=1)])
        sample_ms = await stream.as_of.sample("me", lease_ms=LONG_LEASE_MS)
        assert sample_ms == int(oldest.entry_id.partition("-")[0])


class ClockedRedis(RedisServer):
    """A Redis by a clock that can be set."""

    def __init__(self, data_dir: Path, clock: ShiftedClock, **arguments: Any) -> None:
        super().__init__(data_dir, **arguments)
        self._clock = clock

    def _prepare(self) -> Command:
        return dataclasses.replace(super()._prepare(), environment=self._clock.environment)


async def sample(stream: HitStream) -> int | None:
    return await stream.as_of.sample("me", lease_ms=1)


async def test_no_hit_gets_an_id_from_before_the_sample_after_the_clock_was_set_back(
    tmp_path: Path, producer: Producer
) -> None:
    clock = ShiftedClock(tmp_path)
    with ClockedRedis(tmp_path / "redis", clock) as server:
        async with open_stream(patient_settings(server.url, "x")) as stream:
            await stream.consumer.ensure_group()
            sample_ms = await until(lambda: sample(stream))
            assert sample_ms is not None
            clock.set(-3600)
            await append(stream, producer.batch())
            oldest_ms = (await stream.monitor.status()).oldest_ms
            assert oldest_ms is not None
            assert oldest_ms >= sample_ms


async def test_as_of_is_withdrawn_and_stands_still_while_ids_run_ahead_of_a_clock_that_was_set_back(
    tmp_path: Path, producer: Producer
) -> None:
    clock = ShiftedClock(tmp_path)
    with ClockedRedis(tmp_path / "redis", clock) as server:
        async with open_stream(patient_settings(server.url, "x")) as stream:
            await stream.consumer.ensure_group()
            sample_ms = await until(lambda: sample(stream))
            assert sample_ms is not None
            assert await stream.as_of.publish(sample_ms)
            clock.set(-3600)
            await append(stream, producer.batch())  # accepted an hour before the as-of, by this clock, and not indexed
            await asyncio.sleep(0.01)
            assert await sample(stream) is None
            assert (await stream.monitor.status()).as_of_ms is None
            (entry,) = await stream.consumer.read("c", count=1, block_ms=100)
            await stream.consumer.settle([Settlement(entry.entry_id, indexed=1)])
            sample_ms = await until(lambda: sample(stream))
            assert sample_ms is not None
            assert await stream.as_of.publish(sample_ms)
            assert sample_ms < int(entry.entry_id.partition("-")[0])


async def test_no_hit_gets_an_id_from_before_the_sample_after_a_replica_took_over_whose_clock_is_behind(
    tmp_path: Path, producer: Producer
) -> None:
    clock = ShiftedClock(tmp_path, seconds=-60)
    with RedisServer(tmp_path / "first") as first:
        follow = {"replicaof": f"127.0.0.1 {first.port}", "repl-diskless-sync-delay": "0"}
        with ClockedRedis(tmp_path / "second", clock, options=follow) as second:
            async with open_stream(patient_settings(first.url, "x")) as stream:
                await stream.consumer.ensure_group()
                sample_ms = await until(lambda: sample(stream))
                assert sample_ms is not None
            async with Redis.from_url(second.url) as client:

                async def has_it() -> bool:
                    if not await client.exists("{x}:hits"):
                        return False
                    last_id = (await client.xinfo_stream("{x}:hits"))["last-generated-id"]
                    return int(last_id.partition(b"-")[0]) >= sample_ms

                await until(has_it)
                await client.replicaof("NO", "ONE")
            first.kill()
            async with open_stream(patient_settings(second.url, "x")) as stream:
                await append(stream, producer.batch())
                oldest_ms = (await stream.monitor.status()).oldest_ms
                assert oldest_ms is not None
                assert oldest_ms >= sample_ms


# ── the lease ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_one_indexer_at_a_time_samples_until_its_lease_is_over(
    stream: HitStream, other_stream: HitStream
) -> None:
    assert await stream.as_of.sample("first", lease_ms=200) is not None
    assert await other_stream.as_of.sample("second", lease_ms=LONG_LEASE_MS) is None
    assert await stream.as_of.sample("first", lease_ms=200) is not None
    await until(lambda: other_stream.as_of.sample("second", lease_ms=LONG_LEASE_MS))
    assert await stream.as_of.sample("first", lease_ms=200) is None


async def test_published_sample_is_the_as_of(stream: HitStream, other_stream: HitStream) -> None:
    assert (await other_stream.monitor.status()).as_of_ms is None
    sample_ms = await stream.as_of.sample("me", lease_ms=LONG_LEASE_MS)
    assert sample_ms is not None
    assert await stream.as_of.publish(sample_ms)
    assert (await other_stream.monitor.status()).as_of_ms == sample_ms


async def test_publisher_that_slept_cannot_set_back_what_its_successor_published(
    stream: HitStream, other_stream: HitStream
) -> None:
    slept_on_ms = await stream.as_of.sample("sleeper", lease_ms=20)
    assert slept_on_ms is not None
    newer_ms = await until(lambda: other_stream.as_of.sample("successor", lease_ms=LONG_LEASE_MS))
    assert newer_ms is not None
    assert await other_stream.as_of.publish(newer_ms)
    assert not await stream.as_of.publish(slept_on_ms)
    assert (await stream.monitor.status()).as_of_ms == newer_ms


async def test_refresh_that_outlasts_the_lease_still_ends_in_a_published_as_of(
    stream: HitStream, other_stream: HitStream
) -> None:
    sample_ms = await stream.as_of.sample("slow", lease_ms=1)
    assert sample_ms is not None
    assert await until(lambda: other_stream.as_of.sample("other", lease_ms=LONG_LEASE_MS))
    assert await stream.as_of.publish(sample_ms)
    assert (await stream.monitor.status()).as_of_ms == sample_ms


async def test_as_of_that_lies_ahead_of_a_clock_that_was_set_back_gives_way(stream: HitStream, raw: Redis) -> None:
    sample_ms = await stream.as_of.sample("me", lease_ms=LONG_LEASE_MS)
    assert sample_ms is not None
    await raw.set(stream.keys.as_of, sample_ms + 3_600_000)
    assert await stream.as_of.publish(sample_ms)
    assert (await stream.monitor.status()).as_of_ms == sample_ms


async def test_status_of_an_installation_that_has_just_begun_is_empty(stream: HitStream, raw: Redis) -> None:
    before_ms = await redis_time_ms(raw)
    status = await stream.monitor.status()
    assert before_ms <= status.now_ms <= await redis_time_ms(raw)
    assert status == StreamStatus(Ledger(), entries=0, oldest_ms=None, as_of_ms=None, now_ms=status.now_ms)


async def test_status_tells_the_age_of_the_oldest_entry_whether_it_is_delivered_or_not(
    stream: HitStream, producer: Producer
) -> None:
    await stream.consumer.ensure_group()
    await append(stream, producer.batch("a"))
    queued = await stream.monitor.status()
    await stream.consumer.read("me", count=10, block_ms=0)
    in_flight = await stream.monitor.status()
    assert queued.oldest_ms is not None
    assert queued.oldest_ms <= queued.now_ms
    assert in_flight.oldest_ms == queued.oldest_ms
    assert in_flight.ledger.backlog == 1


@pytest.mark.parametrize("key", ["stream", "ledger", "as_of"])
async def test_status_over_a_key_of_another_type_is_an_error_in_our_words(
    stream: HitStream, raw: Redis, key: str
) -> None:
    await raw.sadd(getattr(stream.keys, key), "somebody else's")
    with pytest.raises(StreamUnavailable, match="WRONGTYPE"):
        await stream.monitor.status()
