"""Settling: acknowledged, deleted and booked in one step, once, and still when Redis is full."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import chain

import pytest
from hitcounter.entries import DeadLetter, Entry, Settlement
from hitcounter.errors import Outcome, StreamUnavailable
from hitcounter.ledger import Audit, Ledger
from hitcounter.settings import RedisSettings
from hitcounter.stream import HitStream, open_stream
from hitcounter_devstack import RedisServer
from redis.asyncio import Redis

from tests.integration.stores.conftest import Producer, append, patient_settings
from tests.support.proxy import FaultyWire


@pytest.fixture
async def entry(stream: HitStream, producer: Producer) -> Entry:
    """An entry of five hits, delivered to `me`."""
    await stream.consumer.ensure_group()
    await append(stream, producer.batch(*"abcde"))
    (entry,) = await stream.consumer.read("me", count=1, block_ms=0)
    return entry


def dead(entry: Entry, *, hits: int = 1, positions: list[int] | None = None, reason: str = "parsing") -> DeadLetter:
    return DeadLetter(reason, "field 🐦 is wrong", hits, entry.payload, positions)


async def ledger_of(stream: HitStream) -> Ledger:
    return (await stream.monitor.status()).ledger


# ── booking ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_settled_entry_is_gone_and_its_hits_are_booked_by_how_they_ended(stream: HitStream, entry: Entry) -> None:
    settlement = Settlement(entry.entry_id, 2, 1, [dead(entry, hits=2, positions=[1, 3])])
    assert await stream.consumer.settle([settlement]) == [entry.entry_id]
    status = await stream.monitor.status()
    assert status.ledger == Ledger(accepted=5, indexed=2, duplicate=1, dead=2)
    assert (status.ledger.backlog, status.entries, status.oldest_ms) == (0, 0, None)
    assert await stream.consumer.reclaim("another", min_idle_ms=0, count=10) == []


async def test_settling_again_books_nothing(stream: HitStream, entry: Entry) -> None:
    settlement = Settlement(entry.entry_id, 4, 0, [dead(entry)])
    assert [await stream.consumer.settle([settlement]) for _ in range(3)] == [[entry.entry_id], [], []]
    assert await ledger_of(stream) == Ledger(accepted=5, indexed=4, dead=1)
    assert len(await stream.dead_letters.list_page()) == 1


async def test_entry_that_two_settle_at_once_is_booked_once(
    stream: HitStream, other_stream: HitStream, producer: Producer
) -> None:
    await stream.consumer.ensure_group()
    for _ in range(50):
        await append(stream, producer.batch("a", "b"))
    entries = await stream.consumer.read("first", count=100, block_ms=0)
    taken_over = await other_stream.consumer.reclaim("second", min_idle_ms=0, count=100)
    one = stream.consumer.settle([Settlement(entry.entry_id, indexed=2) for entry in entries])
    other = other_stream.consumer.settle([Settlement(entry.entry_id, duplicate=2) for entry in reversed(taken_over)])
    assert sorted(chain(*await asyncio.gather(one, other))) == sorted(entry.entry_id for entry in entries)
    ledger = await ledger_of(stream)
    assert (ledger.indexed + ledger.duplicate, ledger.backlog) == (100, 0)


async def test_settlement_whose_answer_was_lost_can_be_repeated(
    redis: RedisServer, stream: HitStream, entry: Entry
) -> None:
    with FaultyWire(redis.url) as wire:
        settings = patient_settings(wire.url, stream.keys.prefix)
        async with open_stream(settings) as distant:
            await distant.consumer.settle([])  # Redis knows the script
            wire.swallow_answers_to(b"EVALSHA")
            with pytest.raises(StreamUnavailable):
                await distant.consumer.settle([Settlement(entry.entry_id, indexed=5)])
            assert await distant.consumer.settle([Settlement(entry.entry_id, indexed=5)]) == []
    assert await ledger_of(stream) == Ledger(accepted=5, indexed=5)


async def test_entry_that_was_never_delivered_cannot_be_settled(stream: HitStream, producer: Producer) -> None:
    await stream.consumer.ensure_group()
    await append(stream, producer.batch())
    (waiting,) = await stream.consumer.read("me", count=1, block_ms=0)
    strange, ours = Settlement("9999999999999-0", indexed=1), Settlement(waiting.entry_id, indexed=1)
    assert await stream.consumer.settle([strange, ours]) == [waiting.entry_id]
    assert await ledger_of(stream) == Ledger(accepted=1, indexed=1)


async def test_entry_is_kept_when_its_group_was_lost_before_it_was_settled(
    stream: HitStream, raw: Redis, entry: Entry
) -> None:
    await raw.xgroup_destroy(stream.keys.stream, "indexers")
    assert await stream.consumer.settle([Settlement(entry.entry_id, indexed=5)]) == []
    await stream.consumer.ensure_group()
    (again,) = await stream.consumer.read("me", count=10, block_ms=0)
    assert await stream.consumer.settle([Settlement(again.entry_id, duplicate=5)]) == [again.entry_id]
    assert await ledger_of(stream) == Ledger(accepted=5, duplicate=5)


async def test_many_entries_are_settled_in_one_step(stream: HitStream, producer: Producer) -> None:
    await stream.consumer.ensure_group()
    for _ in range(1000):
        await append(stream, producer.batch())
    entries = await stream.consumer.read("me", count=1000, block_ms=0)
    assert len(await stream.consumer.settle([Settlement(entry.entry_id, indexed=1) for entry in entries])) == 1000
    assert await ledger_of(stream) == Ledger(accepted=1000, indexed=1000)


@pytest.mark.parametrize("key", ["ledger", "dead"])
async def test_settling_into_a_key_of_another_type_is_an_error_and_nothing_is_done(
    stream: HitStream, raw: Redis, entry: Entry, key: str
) -> None:
    name = {"ledger": stream.keys.ledger, "dead": stream.keys.dead}[key]
    await raw.delete(name)
    await raw.lpush(name, "somebody else's")
    settlement = Settlement(entry.entry_id, 4, 0, [dead(entry)])
    with pytest.raises(StreamUnavailable, match="WRONGTYPE"):
        await stream.consumer.settle([settlement])
    await raw.delete(name)
    assert await stream.dead_letters.list_page() == []
    assert await stream.consumer.settle([settlement]) == [entry.entry_id]
    assert len(await stream.dead_letters.list_page()) == 1


async def test_nothing_to_settle_is_no_fault(stream: HitStream) -> None:
    assert await stream.consumer.settle([]) == []


# ── Redis is full ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def full_redis(entry: Entry, raw: Redis) -> AsyncIterator[None]:
    """A Redis that has reached its maxmemory, with one entry in flight."""
    await raw.config_set("maxmemory", "1")
    yield
    await raw.config_set("maxmemory", "0")


@pytest.mark.usefixtures("full_redis")
async def test_full_redis_refuses_batches_and_says_that_trying_again_at_once_is_no_use(
    stream: HitStream, producer: Producer
) -> None:
    with pytest.raises(StreamUnavailable, match="full") as caught:
        await append(stream, producer.batch())
    assert (caught.value.outcome, caught.value.is_worth_retrying) == (Outcome.REFUSED, False)
    assert caught.value.retry_after_seconds >= 1
    assert (await ledger_of(stream)).accepted == 5


@pytest.mark.usefixtures("full_redis")
async def test_full_redis_is_drained_by_the_indexers_at_work(stream: HitStream, entry: Entry) -> None:
    await stream.consumer.renew("me", [entry.entry_id])
    (entry,) = await stream.consumer.reclaim("another", min_idle_ms=0, count=10)
    assert await stream.consumer.settle([Settlement(entry.entry_id, 4, 0, [dead(entry)])]) == [entry.entry_id]
    assert await ledger_of(stream) == Ledger(accepted=5, indexed=4, dead=1)
    assert await stream.consumer.leave("another")


@pytest.mark.usefixtures("full_redis")
async def test_full_redis_is_drained_by_an_indexer_that_starts_only_now(
    redis_settings: RedisSettings, raw: Redis, entry: Entry
) -> None:
    await raw.script_flush()
    async with open_stream(redis_settings) as fresh:
        await fresh.monitor.ping()
        await fresh.consumer.ensure_group()
        assert await fresh.consumer.read("new", count=10, block_ms=0) == []
        (taken,) = await fresh.consumer.reclaim("new", min_idle_ms=0, count=10)
        assert await fresh.consumer.settle([Settlement(taken.entry_id, indexed=5)]) == [taken.entry_id]


@pytest.mark.usefixtures("full_redis")
async def test_full_redis_still_publishes_the_as_of(stream: HitStream) -> None:
    sample_ms = await stream.as_of.sample("me", lease_ms=5000)
    assert sample_ms is not None
    assert await stream.as_of.publish(sample_ms)
    assert (await stream.monitor.status()).as_of_ms == sample_ms


# ── dead letters ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_dead_letter_keeps_all_that_is_needed_to_show_and_replay_it(stream: HitStream, entry: Entry) -> None:
    letters = [dead(entry, hits=2, positions=[1, 3]), dead(entry, hits=3, reason="other")]
    await stream.consumer.settle([Settlement(entry.entry_id, dead_letters=letters)])
    first, second = await stream.dead_letters.list_page()
    assert (first.letter, second.letter) == tuple(letters)
    assert first.entry_id == second.entry_id == entry.entry_id
    assert await stream.dead_letters.find(first.letter_id) == first
    assert await stream.dead_letters.find("1-0") is None
    assert await stream.dead_letters.list_page(after=first.letter_id) == [second]
    assert await stream.dead_letters.list_page(count=1) == [first]


async def test_dead_letter_sent_again_is_an_entry_for_its_positions_alone_and_back_in_the_backlog(
    stream: HitStream, entry: Entry
) -> None:
    await stream.consumer.settle([Settlement(entry.entry_id, 3, 0, [dead(entry, hits=2, positions=[1, 3])])])
    (stored,) = await stream.dead_letters.list_page()
    assert await stream.dead_letters.replay(stored.letter_id)
    assert not await stream.dead_letters.replay(stored.letter_id)
    assert await stream.dead_letters.list_page() == []
    status = await stream.monitor.status()
    assert status.ledger.backlog == 2
    assert status.oldest_ms is not None
    assert status.oldest_ms >= int(stored.letter_id.split("-")[0]), "for the as-of it is as if accepted only now"
    assert (await stream.monitor.audit()).difference == 0
    (again,) = await stream.consumer.read("me", count=10, block_ms=0)
    assert (again.payload, again.hits, again.positions) == (entry.payload, 2, frozenset({1, 3}))
    await stream.consumer.settle([Settlement(again.entry_id, indexed=2)])
    assert await ledger_of(stream) == Ledger(accepted=5, indexed=5, replayed=2)


async def test_dead_letter_that_cannot_be_booked_as_sent_again_stays_where_it_is(
    stream: HitStream, raw: Redis, entry: Entry
) -> None:
    await stream.consumer.settle([Settlement(entry.entry_id, 4, 0, [dead(entry)])])
    (stored,) = await stream.dead_letters.list_page()
    await raw.delete(stream.keys.ledger)
    await raw.lpush(stream.keys.ledger, "somebody else's")
    with pytest.raises(StreamUnavailable, match="WRONGTYPE"):
        await stream.dead_letters.replay(stored.letter_id)
    assert await stream.dead_letters.list_page() == [stored]
    assert await raw.xlen(stream.keys.stream) == 0


async def test_dead_letter_of_a_whole_entry_sent_again_is_the_whole_entry(stream: HitStream, entry: Entry) -> None:
    await stream.consumer.settle([Settlement(entry.entry_id, dead_letters=[dead(entry, hits=5)])])
    (stored,) = await stream.dead_letters.list_page()
    await stream.dead_letters.replay(stored.letter_id)
    (again,) = await stream.consumer.read("me", count=10, block_ms=0)
    assert (again.payload, again.hits, again.positions) == (entry.payload, 5, None)


async def test_dead_letter_that_is_discarded_stays_booked_as_dead(stream: HitStream, entry: Entry) -> None:
    await stream.consumer.settle([Settlement(entry.entry_id, 4, 0, [dead(entry)])])
    (stored,) = await stream.dead_letters.list_page()
    assert await stream.dead_letters.discard(stored.letter_id)
    assert not await stream.dead_letters.discard(stored.letter_id)
    assert (await ledger_of(stream)).dead == 1
    audit = await stream.monitor.audit()
    assert (audit.difference, audit.dead_difference) == (0, -1)


# ── audit ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_audit_of_a_still_stream_is_exact(stream: HitStream, entry: Entry, producer: Producer) -> None:
    await append(stream, producer.batch("x", "y"))
    await stream.consumer.settle([Settlement(entry.entry_id, 4, 0, [dead(entry)])])
    ledger = Ledger(accepted=7, indexed=4, dead=1)
    audit = await stream.monitor.audit()
    assert audit == Audit(ledger, ledger, stream_hits=2, dead_hits=1)
    assert (audit.is_exact, audit.difference, audit.dead_difference) == (True, 0, 0)


async def test_audit_walks_over_more_entries_than_a_page_holds(stream: HitStream, producer: Producer) -> None:
    for _ in range(1201):
        await append(stream, producer.batch("a", "b"))
    assert (await stream.monitor.audit()).stream_hits == 2402


async def test_audit_of_a_moving_stream_reports_no_false_difference(
    stream: HitStream, other_stream: HitStream, producer: Producer
) -> None:
    await stream.consumer.ensure_group()

    async def move() -> None:
        for round_ in range(200):
            await append(stream, producer.batch(*["a"] * (1 + round_ % 7)))
            if round_ % 3:
                entries = await stream.consumer.read("me", count=5, block_ms=0)
                await stream.consumer.settle([Settlement(entry.entry_id, indexed=entry.hits) for entry in entries])

    moving = asyncio.create_task(move())
    audits = 0
    while not moving.done():
        assert (await other_stream.monitor.audit()).difference == 0
        audits += 1
    await moving
    assert audits > 5
    assert (await other_stream.monitor.audit()).is_exact


@pytest.mark.usefixtures("entry")
async def test_audit_reports_what_the_ledger_cannot_explain(stream: HitStream, raw: Redis) -> None:
    await raw.xadd(stream.keys.stream, {"batch": b"", "hits": "3"})
    assert (await stream.monitor.audit()).difference == 3
    await raw.hincrby(stream.keys.ledger, "accepted", 10)
    assert (await stream.monitor.audit()).difference == -7
    await raw.hincrby(stream.keys.ledger, "dead", 4)
    audit = await stream.monitor.audit()
    assert (audit.difference, audit.dead_difference) == (-3, -4)


async def test_letters_with_more_bytes_than_one_call_may_carry_are_settled_all_the_same(
    stream: HitStream, raw: Redis, producer: Producer
) -> None:
    await stream.consumer.ensure_group()
    await append(stream, *[producer.batch() for _ in range(12)])
    entries = await stream.consumer.read("me", count=100, block_ms=0)
    await raw.config_resetstat()
    payload = bytes(1_000_000)
    settlements = [Settlement(entry.entry_id, dead_letters=[DeadLetter("r", "d", 1, payload)]) for entry in entries]
    assert await stream.consumer.settle(settlements) == [entry.entry_id for entry in entries]
    assert (await raw.info("commandstats"))["cmdstat_evalsha"]["calls"] >= 2
    audit = await stream.monitor.audit()
    assert (audit.difference, audit.dead_difference) == (0, 0)
