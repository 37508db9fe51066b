"""Reading and taking over: each entry to one consumer, none lost with a consumer, a group or a connection."""

from __future__ import annotations

import asyncio

import pytest
from hitcounter.codec import decode
from hitcounter.entries import Settlement
from hitcounter.errors import StreamUnavailable
from hitcounter.stream import GROUP, RECLAIM_MAX_EXAMINED, HitStream
from hitcounter_devstack import RedisServer
from redis.asyncio import Redis

from tests.integration.stores.conftest import Producer, append
from tests.integration.stores.waiting import until


@pytest.fixture
async def group(stream: HitStream) -> None:
    await stream.consumer.ensure_group()


async def read_ids(stream: HitStream, consumer: str = "me", count: int = 100) -> list[str]:
    """Return the first id in each entry that is there now."""
    return [decode(entry.payload).ids[0] for entry in await stream.consumer.read(consumer, count=count, block_ms=0)]


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("group")
async def test_entries_are_read_oldest_first_and_each_only_once(stream: HitStream, producer: Producer) -> None:
    await append(stream, *[producer.batch(id_) for id_ in "abc"])
    assert await read_ids(stream, "me", count=2) == ["a", "b"]
    assert await read_ids(stream, "another") == ["c"]
    assert await read_ids(stream, "me") == []


@pytest.mark.usefixtures("group")
async def test_entry_brings_its_batch_and_the_hits_that_were_booked(stream: HitStream, producer: Producer) -> None:
    batch = producer.batch("a", "b", "🐦")
    await append(stream, batch)
    (entry,) = await stream.consumer.read("me", count=10, block_ms=0)
    assert (entry.hits, entry.deliveries, entry.positions) == (3, 1, None)
    assert list(decode(entry.payload).ids) == ["a", "b", "🐦"]
    assert decode(entry.payload).sequence == batch.sequence


@pytest.mark.usefixtures("group")
async def test_read_waits_for_the_first_entry_and_returns_as_soon_as_it_is_there(
    stream: HitStream, producer: Producer
) -> None:
    reading = asyncio.create_task(stream.consumer.read("me", count=10, block_ms=5000))
    await asyncio.sleep(0.05)
    assert not reading.done()
    await append(stream, producer.batch())
    async with asyncio.timeout(4):
        assert len(await reading) == 1


@pytest.mark.usefixtures("group")
async def test_read_that_finds_nothing_returns_nothing_after_its_wait(stream: HitStream) -> None:
    start = asyncio.get_running_loop().time()
    assert await stream.consumer.read("me", count=10, block_ms=50) == []
    assert asyncio.get_running_loop().time() - start > 0.04


async def test_entries_from_before_the_group_was_made_are_read(stream: HitStream, producer: Producer) -> None:
    await append(stream, producer.batch("early"))
    await stream.consumer.ensure_group()
    assert await read_ids(stream) == ["early"]


async def test_group_that_is_there_is_left_as_it_is(stream: HitStream, producer: Producer) -> None:
    await stream.consumer.ensure_group()
    await append(stream, producer.batch("a"))
    assert await read_ids(stream) == ["a"]
    await stream.consumer.ensure_group()
    assert await read_ids(stream) == []


@pytest.mark.usefixtures("group")
async def test_entry_of_somebody_else_is_read_as_one_without_batch_and_hits(stream: HitStream, raw: Redis) -> None:
    await raw.xadd(stream.keys.stream, {"greeting": "hello"})
    await raw.xadd(stream.keys.stream, {"batch": b"\xff", "hits": "many", "positions": "here,there"})
    await raw.xadd(stream.keys.stream, {"batch": b"", "hits": "9" * 5000, "positions": "9" * 5000})
    await raw.xadd(stream.keys.stream, {"batch": b"", "hits": "-1"})
    entries = await stream.consumer.read("me", count=10, block_ms=0)
    assert [entry.payload for entry in entries] == [b"", b"\xff", b"", b""]
    assert [entry.hits for entry in entries] == [0, 0, 0, 0]
    assert len(await stream.consumer.settle([Settlement(entry.entry_id) for entry in entries])) == 4


# ── the group is lost ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("group")
async def test_group_that_was_destroyed_is_made_again_and_its_entries_are_delivered_again(
    stream: HitStream, raw: Redis, producer: Producer
) -> None:
    await append(stream, *[producer.batch(id_) for id_ in "ab"])
    assert await read_ids(stream, count=1) == ["a"]
    await raw.xgroup_destroy(stream.keys.stream, GROUP)
    assert await read_ids(stream) == []
    assert await read_ids(stream) == ["a", "b"]


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("loss", ["group destroyed", "stream deleted", "everything flushed"])
async def test_readers_that_wait_while_the_group_is_lost_make_it_again_and_go_on(
    redis: RedisServer, stream: HitStream, other_stream: HitStream, raw: Redis, producer: Producer, loss: str
) -> None:
    reading = [
        asyncio.create_task(stream.consumer.read(f"reader-{number}", count=10, block_ms=3000)) for number in range(3)
    ]

    async def are_blocked() -> bool:
        clients = await raw.client_list()
        return sum(client["cmd"].startswith("xreadgroup") and "b" in client["flags"] for client in clients) >= 3

    await until(are_blocked)
    if loss == "group destroyed":
        await raw.xgroup_destroy(stream.keys.stream, GROUP)
    elif loss == "stream deleted":
        await raw.delete(stream.keys.stream)
    else:
        await raw.flushall()
    async with asyncio.timeout(2):
        assert await asyncio.gather(*reading) == [[], [], []]
    await append(other_stream, producer.batch("after"))
    assert await until(lambda: read_ids(stream)) == ["after"]


@pytest.mark.usefixtures("group")
async def test_nothing_is_reclaimed_or_renewed_or_left_in_a_group_that_is_lost(stream: HitStream, raw: Redis) -> None:
    await raw.delete(stream.keys.stream)
    assert await stream.consumer.reclaim("me", min_idle_ms=0, count=10) == []
    assert await stream.consumer.settle([Settlement("1-0", indexed=1)]) == []
    with pytest.raises(StreamUnavailable, match="NOGROUP"):
        await stream.consumer.renew("me", ["1-0"])
    with pytest.raises(StreamUnavailable, match="NOGROUP"):
        await stream.consumer.leave("me")


@pytest.mark.usefixtures("group")
async def test_nothing_is_reclaimed_if_the_group_is_lost_after_its_entries_were_claimed(
    stream: HitStream, raw: Redis, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await append(stream, producer.batch())
    await stream.consumer.read("dead", count=1, block_ms=0)
    claim = stream.consumer._claim_silent

    async def claim_and_lose_the_group(consumer: str, min_idle_ms: int, count: int) -> object:
        claimed = await claim(consumer, min_idle_ms, count)
        assert claimed
        await raw.xgroup_destroy(stream.keys.stream, GROUP)
        return claimed

    monkeypatch.setattr(stream.consumer, "_claim_silent", claim_and_lose_the_group)
    assert await stream.consumer.reclaim("me", min_idle_ms=0, count=10) == []


# ── silent consumers ────────────────────────────────────────────────────────────────────────────────────────────────


async def idle_ms(stream: HitStream, raw: Redis) -> list[int]:
    """Return how long each pending entry has had no sign of its consumer, oldest entry first."""
    pending = await raw.xpending_range(stream.keys.stream, GROUP, min="-", max="+", count=1000)
    return [int(item["time_since_delivered"]) for item in pending]


@pytest.mark.usefixtures("group")
async def test_entries_of_a_silent_consumer_are_taken_over_with_their_number_of_deliveries(
    stream: HitStream, producer: Producer
) -> None:
    await append(stream, *[producer.batch(id_) for id_ in "ab"])
    await stream.consumer.read("silent", count=10, block_ms=0)
    entries = await until(lambda: stream.consumer.reclaim("me", min_idle_ms=20, count=10))
    assert [(decode(entry.payload).ids[0], entry.hits, entry.deliveries) for entry in entries] == [
        ("a", 1, 2),
        ("b", 1, 2),
    ]
    again = await until(lambda: stream.consumer.reclaim("third", min_idle_ms=20, count=10))
    assert [entry.deliveries for entry in again] == [3, 3]


@pytest.mark.usefixtures("group")
async def test_entry_whose_claim_is_renewed_stays_where_it_is(
    stream: HitStream, raw: Redis, producer: Producer
) -> None:
    await append(stream, *[producer.batch(id_) for id_ in "ab"])
    busy, _ = await stream.consumer.read("me", count=10, block_ms=0)

    async def are_both_silent() -> bool:
        return min(await idle_ms(stream, raw)) > 500

    await until(are_both_silent)
    await stream.consumer.renew("me", [busy.entry_id])
    taken = await stream.consumer.reclaim("another", min_idle_ms=400, count=10)
    assert [decode(entry.payload).ids[0] for entry in taken] == ["b"]
    await until(are_both_silent)
    (entry, _) = await stream.consumer.reclaim("another", min_idle_ms=400, count=10)
    assert (entry.entry_id, entry.deliveries) == (busy.entry_id, 2)  # a renewal is no delivery


@pytest.mark.usefixtures("group")
async def test_entry_that_is_handed_over_can_be_reclaimed_at_once(
    stream: HitStream, other_stream: HitStream, producer: Producer
) -> None:
    await append(stream, producer.batch("a"), producer.batch("b"))
    first, _ = await stream.consumer.read("me", count=10, block_ms=0)
    await stream.consumer.hand_over("me", [first.entry_id], idle_ms=60_000)
    (taken,) = await other_stream.consumer.reclaim("another", min_idle_ms=60_000, count=10)
    assert (taken.entry_id, taken.deliveries) == (first.entry_id, 2)


@pytest.mark.usefixtures("group")
async def test_entries_are_pending_from_their_delivery_until_they_are_settled(
    stream: HitStream, raw: Redis, producer: Producer
) -> None:
    await append(stream, *[producer.batch() for _ in range(2)])
    ids = [entry.entry_id for entry in await stream.consumer.read("another", count=2, block_ms=0)]
    await append(stream, producer.batch())
    await stream.consumer.settle([Settlement(ids[0], indexed=1)])
    assert await stream.consumer.find_pending([*ids, "9999999999999-0"]) == {ids[1]}
    await raw.xgroup_destroy(stream.keys.stream, GROUP)
    assert await stream.consumer.find_pending(ids) == set()


@pytest.mark.usefixtures("group")
async def test_renewing_entries_that_are_settled_does_not_bring_them_back(
    stream: HitStream, raw: Redis, producer: Producer
) -> None:
    await append(stream, producer.batch())
    (entry,) = await stream.consumer.read("me", count=10, block_ms=0)
    await stream.consumer.settle([Settlement(entry.entry_id, indexed=1)])
    await stream.consumer.renew("me", [entry.entry_id])
    assert await idle_ms(stream, raw) == []


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("order", ["before the others", "among the others", "behind the others"])
async def test_all_entries_of_a_dead_indexer_are_found_at_once_while_hundreds_of_others_are_in_flight(
    stream: HitStream, other_stream: HitStream, raw: Redis, producer: Producer, order: str
) -> None:
    """At the default settings: 30 s of silence, 10 entries a call, and Redis looks at ten times as many in one go."""
    await append(stream, *[producer.batch() for _ in range(700)])
    ids = [entry.entry_id for entry in await stream.consumer.read("live", count=1000, block_ms=0)]
    first, step = {"before the others": (0, 1), "among the others": (0, 2), "behind the others": (400, 1)}[order]
    dead = ids[first::step][:300]
    await stream.consumer.renew("dead", dead)
    for _ in range(4):  # as often as an indexer looks until they have been silent for long enough
        assert await other_stream.consumer.reclaim("me", min_idle_ms=30_000, count=10) == []
    await raw.xclaim(stream.keys.stream, GROUP, "dead", 0, dead, idle=30_001, justid=True)  # type: ignore[arg-type]
    found: list[str] = []
    while page := await other_stream.consumer.reclaim("me", min_idle_ms=30_000, count=10):
        found += [entry.entry_id for entry in page]
    assert found == dead


@pytest.mark.usefixtures("group")
async def test_entries_that_keep_coming_back_do_not_hide_those_behind_them(
    stream: HitStream, other_stream: HitStream, producer: Producer
) -> None:
    """Such as those of a day that takes nothing, or for a newer indexer: they are handed over again each time."""
    await append(stream, *[producer.batch() for _ in range(30)])
    ids = [entry.entry_id for entry in await stream.consumer.read("dead", count=100, block_ms=0)]
    await stream.consumer.hand_over("dead", ids, idle_ms=60_000)
    seen: set[str] = set()
    for _ in range(3):
        page = [entry.entry_id for entry in await other_stream.consumer.reclaim("me", min_idle_ms=60_000, count=10)]
        await other_stream.consumer.hand_over("me", page, idle_ms=60_000)
        seen |= set(page)
    assert seen == set(ids)


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("others", [0, 180])
async def test_reclaim_transfers_nothing_about_entries_that_it_did_not_take_over(
    stream: HitStream, raw: Redis, producer: Producer, others: int
) -> None:
    await append(stream, *[producer.batch() for _ in range(others + 2)])
    first, *own, last = [entry.entry_id for entry in await stream.consumer.read("dead", count=1000, block_ms=0)]
    if own:
        await stream.consumer.renew("me", own)
    await stream.consumer.hand_over("dead", [first, last], idle_ms=60_000)

    async def sent_bytes() -> int:
        return int((await raw.info("stats"))["total_net_output_bytes"])

    before = await sent_bytes()
    answer_bytes = await sent_bytes() - before  # to the question itself
    entries = await stream.consumer.reclaim("me", min_idle_ms=30_000, count=20)
    assert [(entry.entry_id, entry.deliveries) for entry in entries] == [(first, 2), (last, 2)]
    assert await sent_bytes() - before - 2 * answer_bytes < 2_000


@pytest.mark.usefixtures("group")
async def test_reclaim_examines_a_limited_number_of_entries_and_the_next_one_continues_there(
    stream: HitStream, other_stream: HitStream, raw: Redis
) -> None:
    """Thousands may be claimed anew all the time: those that were left until the shard of their day is back."""
    async with raw.pipeline(transaction=False) as pipeline:
        for number in range(RECLAIM_MAX_EXAMINED + 200):
            pipeline.xadd(stream.keys.stream, {"batch": "b", "hits": "1"}, id=f"{number + 1}-0")
        await pipeline.execute()
    await raw.xreadgroup(GROUP, "live", {stream.keys.stream: ">"}, count=RECLAIM_MAX_EXAMINED + 200)
    behind = f"{RECLAIM_MAX_EXAMINED + 150}-0"
    await stream.consumer.hand_over("dead", [behind], idle_ms=60_000)
    assert await other_stream.consumer.reclaim("me", min_idle_ms=30_000, count=10) == []
    await stream.consumer.hand_over("dead", ["1-0"], idle_ms=60_000)
    found = [await other_stream.consumer.reclaim("me", min_idle_ms=30_000, count=10) for _ in range(2)]
    assert [[entry.entry_id for entry in page] for page in found] == [[behind], ["1-0"]]


@pytest.mark.usefixtures("group")
async def test_all_entries_of_a_silent_consumer_are_taken_over_page_by_page(
    stream: HitStream, producer: Producer
) -> None:
    for _ in range(25):
        await append(stream, producer.batch())
    await stream.consumer.read("silent", count=100, block_ms=0)
    pages = [await stream.consumer.reclaim("me", min_idle_ms=0, count=10) for _ in range(3)]
    assert [len(page) for page in pages] == [10, 10, 5]
    assert len({entry.entry_id for page in pages for entry in page}) == 25


@pytest.mark.usefixtures("group")
async def test_entry_that_somebody_deleted_by_hand_is_passed_over(
    stream: HitStream, raw: Redis, producer: Producer
) -> None:
    await append(stream, *[producer.batch(id_) for id_ in "ab"])
    first, _ = await stream.consumer.read("silent", count=10, block_ms=0)
    await raw.xdel(stream.keys.stream, first.entry_id)
    taken = await stream.consumer.reclaim("me", min_idle_ms=0, count=10)
    assert [decode(entry.payload).ids[0] for entry in taken] == ["b"]


# ── leaving ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("group")
async def test_consumer_leaves_only_when_nothing_of_it_is_pending(
    stream: HitStream, raw: Redis, producer: Producer
) -> None:
    await append(stream, producer.batch())
    (entry,) = await stream.consumer.read("me", count=10, block_ms=0)
    assert not await stream.consumer.leave("me")
    assert len(await idle_ms(stream, raw)) == 1
    await stream.consumer.settle([Settlement(entry.entry_id, indexed=1)])
    assert await stream.consumer.leave("me")
    assert await raw.xinfo_consumers(stream.keys.stream, GROUP) == []


@pytest.mark.usefixtures("group")
async def test_consumer_that_never_was_there_is_gone(stream: HitStream) -> None:
    assert await stream.consumer.leave("nobody")
