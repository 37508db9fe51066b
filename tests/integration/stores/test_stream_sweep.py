"""Removing dead consumers: many at once, none that holds an entry, and no harm to one that lives."""

from __future__ import annotations

import asyncio

import pytest
from hitcounter.elastic import Indices, RetentionReport
from hitcounter.entries import Settlement
from hitcounter.health import Readiness
from hitcounter.stream import GROUP, HitStream
from hitcounter_indexer.conditions import Conditions
from hitcounter_indexer.housekeeping import Housekeeping
from hitcounter_indexer.metrics import create_metrics
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from tests.integration.stores.conftest import Producer, append
from tests.integration.stores.waiting import until


class NoIndices(Indices):
    """Indices of an installation that has none."""

    def __init__(self) -> None:
        pass

    async def drop_expired(
        self, now_ms: int, *, retention_days: int | None = None, is_dry_run: bool = False
    ) -> RetentionReport:
        return RetentionReport(kept=0, dropped=[])


async def test_silent_consumers_are_swept_and_only_those_with_nothing_pending(
    stream: HitStream, other_stream: HitStream, raw: Redis, producer: Producer
) -> None:
    await stream.consumer.ensure_group()
    await append(stream, producer.batch())
    (entry,) = await stream.consumer.read("busy", count=1, block_ms=100)
    for number in range(500):
        await raw.xgroup_createconsumer(stream.keys.stream, GROUP, f"dead-{number}")
    assert await stream.consumer.sweep(min_idle_ms=60_000) == []
    swept = await other_stream.consumer.sweep(min_idle_ms=0)
    assert sorted(swept) == sorted(f"dead-{number}" for number in range(500))
    assert [consumer["name"] for consumer in await raw.xinfo_consumers(stream.keys.stream, GROUP)] == [b"busy"]
    assert await stream.consumer.settle([Settlement(entry.entry_id, indexed=1)]) == [entry.entry_id]


async def test_consumer_that_was_swept_while_it_waited_gets_its_entries_all_the_same(
    stream: HitStream, other_stream: HitStream, raw: Redis, producer: Producer
) -> None:
    await stream.consumer.ensure_group()
    reading = asyncio.create_task(stream.consumer.read("alive", count=1, block_ms=5000))

    async def is_waiting() -> bool:
        return bool((await raw.info("clients"))["blocked_clients"])

    await until(is_waiting)
    await other_stream.consumer.sweep(min_idle_ms=0)
    await append(other_stream, producer.batch())
    (entry,) = await reading
    assert await stream.consumer.settle([Settlement(entry.entry_id, indexed=1)]) == [entry.entry_id]


async def test_sweeping_where_there_is_no_group_finds_nothing(stream: HitStream) -> None:
    assert await stream.consumer.sweep(min_idle_ms=0) == []


async def test_making_the_group_tells_whether_it_was_missing(stream: HitStream) -> None:
    assert [await stream.consumer.ensure_group(), await stream.consumer.ensure_group()] == [True, False]


async def test_consumers_of_killed_indexers_are_removed_by_the_indexer_that_publishes_the_as_of(
    stream: HitStream, raw: Redis, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the operator; never one with entries in flight, which somebody has to take over first."""
    monkeypatch.setattr("hitcounter_indexer.housekeeping._CONSUMER_SILENCE_MS", 50)
    await stream.consumer.ensure_group()
    await append(stream, producer.batch())
    await stream.consumer.read("killed with an entry", count=1, block_ms=0)
    for consumer in ("killed", "killed, too"):
        await raw.xgroup_createconsumer(stream.keys.stream, GROUP, consumer)
    metrics = create_metrics(CollectorRegistry())
    conditions = Conditions(Readiness(), metrics)
    await stream.as_of.sample("publisher", lease_ms=60_000)

    async def names() -> list[bytes]:
        return [found["name"] for found in await raw.xinfo_consumers(stream.keys.stream, GROUP)]

    await asyncio.sleep(0.1)
    for indexer, left in (("another", 3), ("publisher", 1)):
        await Housekeeping(stream, NoIndices(), conditions, metrics, name=indexer).run_due()
        assert len(await names()) == left
    assert await names() == [b"killed with an entry"]
