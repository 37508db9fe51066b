"""Writing documents: each once, into one of our indices, and no document is rejected for a problem of the cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from elasticsearch import AsyncElasticsearch
from hitcounter.elastic import Indices, open_client
from hitcounter.errors import IndexUnavailable
from hitcounter.hits import DAY_MS, Hit
from hitcounter.indices import MAPPING, build_index, index_of, write_alias
from hitcounter.settings import ElasticsearchSettings, IndexSettings
from hitcounter_devstack import ElasticsearchServer, free_port
from hitcounter_indexer.documents import Action, build_actions, build_documents
from hitcounter_indexer.outcomes import ItemOutcome
from hitcounter_indexer.sink import ElasticsearchSink

from tests.integration.stores.conftest import NOW_MS, TODAY, Producer, count
from tests.support.next_version import add_next_field, next_mapping
from tests.support.proxy import FaultyWire

INDEXED, DUPLICATE, RETRY, HOLD, REJECT = (
    ItemOutcome.INDEXED,
    ItemOutcome.DUPLICATE,
    ItemOutcome.RETRY,
    ItemOutcome.HOLD,
    ItemOutcome.REJECT,
)
YESTERDAY_MS = NOW_MS - DAY_MS


@pytest.fixture
def sink(client: AsyncElasticsearch, indices: Indices) -> ElasticsearchSink:
    return ElasticsearchSink(client, indices)


@pytest.fixture
def today(name: str) -> str:
    return f"{name}-{TODAY}"


class Writer:
    """Writes hits as an indexer would, each call as a batch of its own."""

    def __init__(self, sink: ElasticsearchSink, producer: Producer, name: str) -> None:
        self._sink = sink
        self._producer = producer
        self._name = name

    def actions(self, *hits: Hit) -> list[Action]:
        return build_actions(build_documents(self._producer.batch_of(*hits), self._name))

    async def write(self, *hits: Hit) -> list[ItemOutcome]:
        return await self.write_actions(self.actions(*hits))

    async def write_actions(self, actions: list[Action]) -> list[ItemOutcome]:
        return [result.outcome for result in await self._sink.write(actions)]


@pytest.fixture
def writer(sink: ElasticsearchSink, producer: Producer, name: str) -> Writer:
    return Writer(sink, producer, name)


# ── once ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_documents_are_created_once_however_often_they_are_written(
    writer: Writer, client: AsyncElasticsearch, name: str
) -> None:
    actions = writer.actions(Hit("a", NOW_MS, 3), Hit("a", NOW_MS, 4), Hit("b", NOW_MS))
    assert await writer.write_actions(actions) == [INDEXED, INDEXED]
    assert await writer.write_actions(actions) == [DUPLICATE, DUPLICATE]
    assert await writer.write_actions([*actions, *writer.actions(Hit("c", NOW_MS))]) == [DUPLICATE, DUPLICATE, INDEXED]
    assert await count(client, name, term={"id": "a"}) == 7
    assert await count(client, name) == 9


async def test_key_is_counted_once_whatever_batch_brings_it(
    writer: Writer, client: AsyncElasticsearch, name: str
) -> None:
    hit = Hit("a", NOW_MS, 5, "order-17")
    assert await writer.write(hit) == [INDEXED]
    assert await writer.write(Hit("b", NOW_MS), hit) == [INDEXED, DUPLICATE]
    assert await count(client, name, term={"id": "a"}) == 5


async def test_bulk_whose_answer_was_lost_can_be_written_again(
    elasticsearch: ElasticsearchServer, indices: Indices, producer: Producer, client: AsyncElasticsearch, name: str
) -> None:
    with FaultyWire(elasticsearch.url) as wire:
        async with open_client(ElasticsearchSettings(url=wire.url)) as distant_client:
            writer = Writer(ElasticsearchSink(distant_client, indices), producer, name)
            actions = writer.actions(Hit("a", NOW_MS), Hit("b", NOW_MS))
            wire.swallow_answers_to(b"_bulk")
            with pytest.raises(IndexUnavailable) as caught:
                await writer.write_actions(actions)
            assert caught.value.status is None
            assert await writer.write_actions(actions) == [DUPLICATE, DUPLICATE]
    assert await count(client, name) == 2


async def test_hits_of_several_days_go_into_the_indices_of_their_own_days(
    writer: Writer, client: AsyncElasticsearch, name: str, today: str
) -> None:
    midnight_ms = NOW_MS // DAY_MS * DAY_MS
    times_ms = [midnight_ms - 1, midnight_ms, midnight_ms + DAY_MS - 1, midnight_ms + DAY_MS]
    assert await writer.write(*[Hit("a", time_ms) for time_ms in times_ms]) == [INDEXED] * 4
    await client.indices.refresh(index=f"{name}-*")
    found = {
        day: (await client.count(index=f"{name}-{day}"))["count"] for day in ("2026.11.23", "2026.11.24", "2026.11.25")
    }
    assert found == {"2026.11.23": 1, "2026.11.24": 2, "2026.11.25": 1}
    assert (await client.indices.get_mapping(index=today)).body[today]["mappings"] == MAPPING


async def test_every_id_is_counted_exactly_as_it_is(writer: Writer, client: AsyncElasticsearch, name: str) -> None:
    ids = ["🐦", "\0", "a\0b", 'say "hi"\\', "line\nend", "a/b?c=d&e", "é" * 256, "🐦" * 128, "x" * 512, "x" * 511]
    ids += [" ", "  ", "\u2028", "\x7f", "é", "e\u0301", "A", "a", "*", "null"]
    await writer.write(*[Hit(id_, NOW_MS, number) for number, id_ in enumerate(ids, 1)])
    await client.indices.refresh(index=f"{name}-*")
    counted = [await count(client, name, term={"id": id_}) for id_ in ids]
    assert counted == list(range(1, len(ids) + 1))


async def test_heaviest_batch_is_summed_without_loss(writer: Writer, client: AsyncElasticsearch, name: str) -> None:
    assert await writer.write(*[Hit("a", NOW_MS, 1_000_000)] * 10_000) == [INDEXED]
    assert await writer.write(Hit("a", NOW_MS)) == [INDEXED]
    assert await count(client, name) == 10_000_000_001


async def test_nothing_to_write_is_no_fault(sink: ElasticsearchSink) -> None:
    assert await sink.write([]) == []


# ── the document's own fault ────────────────────────────────────────────────────────────────────────────────────────


def spoiled(action: Action, document: bytes) -> Action:
    return action._replace(lines=action.lines.partition(b"\n")[0] + b"\n" + document + b"\n")


async def test_document_that_cannot_be_parsed_is_rejected_beside_others_that_are_indexed(writer: Writer) -> None:
    good, bad, worse = writer.actions(Hit("a", NOW_MS), Hit("b", NOW_MS), Hit("c", NOW_MS))
    bad = spoiled(bad, b'{"id":"b","timestamp":"yesterday","n":1}')
    worse = spoiled(worse, b'{"id":"c","timestamp":1795507200000,"n":"many"}')
    assert await writer.write_actions([bad, good, worse]) == [REJECT, INDEXED, REJECT]


async def test_document_with_a_field_too_many_is_held_since_our_mapping_may_be_too_old(writer: Writer) -> None:
    (action,) = writer.actions(Hit("a", NOW_MS))
    assert await writer.write_actions(
        [spoiled(action, b'{"id":"a","timestamp":1795507200000,"n":1,"country":"ch"}')]
    ) == [HOLD]


# ── the index is lost ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("pattern", ["{today}", "{name}-*"])
async def test_index_that_was_wiped_is_made_again_by_us_and_never_by_elasticsearch(
    writer: Writer, client: AsyncElasticsearch, name: str, today: str, pattern: str
) -> None:
    await writer.write(Hit("before", NOW_MS), Hit("before", YESTERDAY_MS))
    found = await client.indices.get(index=pattern.format(name=name, today=today))
    await client.indices.delete(index=sorted(found.body))
    actions = writer.actions(Hit("a", NOW_MS))
    assert await writer.write_actions(actions) == [RETRY]
    assert await writer.write_actions(actions) == [INDEXED]
    described = (await client.indices.get(index=today)).body[today]
    assert described["mappings"] == MAPPING
    assert described["aliases"].keys() == {name, write_alias(today)}
    assert await count(client, name, term={"id": "a"}) == 1


async def test_index_that_somebody_else_made_in_place_of_the_lost_one_gets_no_documents(
    writer: Writer, client: AsyncElasticsearch, today: str
) -> None:
    await writer.write(Hit("before", NOW_MS))
    await client.indices.delete(index=today)
    await client.index(index=today, document={"id": "by a dynamic mapping"})
    actions = writer.actions(Hit("a", NOW_MS))
    for _ in range(2):
        assert await writer.write_actions(actions) == [HOLD]
    await client.indices.delete(index=today)
    assert await writer.write_actions(actions) == [INDEXED]


async def test_index_that_an_older_version_made_in_place_of_the_lost_one_gets_the_field_that_it_lacks(
    writer: Writer, client: AsyncElasticsearch, name: str, index_settings: IndexSettings, today: str
) -> None:
    with next_mapping():
        await writer.write(Hit("before", NOW_MS))
        await client.indices.delete(index=today)
    await Indices(client, name, index_settings).ensure([today])
    actions = add_next_field(writer.actions(Hit("a", NOW_MS)))
    with next_mapping():
        assert await writer.write_actions(actions) == [HOLD]
        assert await writer.write_actions(actions) == [INDEXED]


async def test_documents_that_a_foreign_mapping_rejects_are_held_and_not_rejected(
    writer: Writer, client: AsyncElasticsearch, today: str
) -> None:
    await writer.write(Hit("before", NOW_MS))
    await client.indices.delete(index=today)
    await client.indices.create(
        index=today,
        mappings={"properties": {"id": {"type": "long"}}},
        aliases={write_alias(today): {}},
    )
    actions = writer.actions(Hit("not a number", NOW_MS))
    for _ in range(2):
        (result,) = await writer._sink.write(actions)
        assert result.outcome is HOLD
        assert "not made by hitcounter" in result.detail


async def test_alias_that_somebody_removed_is_made_again(
    writer: Writer, client: AsyncElasticsearch, today: str
) -> None:
    await writer.write(Hit("before", NOW_MS))
    await client.indices.delete_alias(index=today, name=write_alias(today))
    actions = writer.actions(Hit("a", NOW_MS))
    assert await writer.write_actions(actions) == [RETRY]
    assert await writer.write_actions(actions) == [INDEXED]


# ── the index refuses everybody ─────────────────────────────────────────────────────────────────────────────────────


async def test_documents_of_a_closed_index_are_held_beside_others_that_are_indexed(
    writer: Writer, client: AsyncElasticsearch, today: str
) -> None:
    await writer.write(Hit("before", NOW_MS))
    await client.indices.close(index=today)
    actions = writer.actions(Hit("a", NOW_MS), Hit("a", YESTERDAY_MS))
    assert await writer.write_actions(actions) == [HOLD, INDEXED]
    await client.indices.open(index=today)
    assert await writer.write_actions(actions) == [INDEXED, DUPLICATE]


@pytest.mark.parametrize(
    ("block", "outcome"), [("write", HOLD), ("read_only", HOLD), ("read_only_allow_delete", RETRY)]
)
async def test_documents_of_an_index_under_a_block_are_kept(
    writer: Writer, client: AsyncElasticsearch, today: str, block: str, outcome: ItemOutcome
) -> None:
    """read_only_allow_delete is what Elasticsearch itself sets when its disk is nearly full."""
    await writer.write(Hit("before", NOW_MS))
    actions = writer.actions(Hit("a", NOW_MS), Hit("a", YESTERDAY_MS))
    await client.indices.put_settings(index=today, settings={f"index.blocks.{block}": True})
    try:
        assert await writer.write_actions(actions) == [outcome, INDEXED]
    finally:
        await client.indices.put_settings(index=today, settings={f"index.blocks.{block}": None})
    assert await writer.write_actions(actions) == [INDEXED, DUPLICATE]


async def test_documents_of_a_day_without_its_shard_are_answered_one_by_one_before_the_client_gives_up(
    client: AsyncElasticsearch, indices: Indices, producer: Producer, name: str
) -> None:
    """Elasticsearch would wait a minute for the shard, and nothing would be known of the others."""
    yesterday = index_of(name, YESTERDAY_MS)
    body: Any = build_index(name, yesterday, IndexSettings(replicas=0))
    body["settings"]["index"]["routing.allocation.include._name"] = "nobody"
    await client.indices.create(index=yesterday, wait_for_active_shards=0, **body)
    writer = Writer(ElasticsearchSink(client, indices, request_timeout_seconds=3), producer, name)
    async with asyncio.timeout(15):
        actions = writer.actions(Hit("a", YESTERDAY_MS), Hit("a", NOW_MS))
        assert await writer.write_actions(actions) == [RETRY, INDEXED]
    (result, _) = await writer._sink.write(actions)
    assert result.is_shard_refusal
    assert "request:" not in result.detail


@pytest.fixture
async def no_room_for_shards(writer: Writer, client: AsyncElasticsearch) -> AsyncIterator[None]:
    """An Elasticsearch that has today's index, and takes no further one."""
    await writer.write(Hit("before", NOW_MS))
    await client.cluster.put_settings(transient={"cluster.max_shards_per_node": 1})
    yield
    await client.cluster.put_settings(transient={"cluster.max_shards_per_node": None})


@pytest.mark.usefixtures("no_room_for_shards")
async def test_documents_whose_index_cannot_be_made_are_held_beside_others_that_are_indexed(
    writer: Writer, client: AsyncElasticsearch
) -> None:
    actions = writer.actions(Hit("a", YESTERDAY_MS), Hit("a", NOW_MS), Hit("b", YESTERDAY_MS))
    assert await writer.write_actions(actions) == [HOLD, INDEXED, HOLD]
    await client.cluster.put_settings(transient={"cluster.max_shards_per_node": None})
    assert await writer.write_actions(actions) == [INDEXED, DUPLICATE, INDEXED]


async def test_name_of_an_index_that_is_taken_by_an_alias_is_held(
    writer: Writer, client: AsyncElasticsearch, name: str
) -> None:
    await client.indices.create(index=f"{name}x", aliases={index_of(name, NOW_MS): {}})
    assert await writer.write(Hit("a", NOW_MS)) == [HOLD]


# ── Elasticsearch itself ────────────────────────────────────────────────────────────────────────────────────────────


async def test_elasticsearch_that_is_not_there_says_nothing_of_any_document(
    indices: Indices, producer: Producer, name: str
) -> None:
    async with open_client(ElasticsearchSettings(url=f"http://127.0.0.1:{free_port()}")) as client:
        sink = ElasticsearchSink(client, Indices(client, name, indices._settings))
        with pytest.raises(IndexUnavailable, match="does not answer"):
            await Writer(sink, producer, name).write(Hit("a", NOW_MS))


async def test_bulk_beyond_what_elasticsearch_takes_in_one_request_is_413(
    sink: ElasticsearchSink, writer: Writer, client: AsyncElasticsearch
) -> None:
    (action,) = writer.actions(Hit("a", NOW_MS))
    huge = action._replace(lines=action.lines + b"\n" * (101 * 1024 * 1024))
    with pytest.raises(IndexUnavailable) as caught:
        await sink.write([huge])
    assert caught.value.status in (413, None)  # it may hang up while we still send


async def test_flushed_documents_are_on_disk(
    sink: ElasticsearchSink, writer: Writer, client: AsyncElasticsearch, today: str
) -> None:
    await writer.write(Hit("a", NOW_MS))
    await sink.flush([today])
    translog: Any = (await client.indices.stats(index=today, metric="translog"))["_all"]["total"]["translog"]
    assert translog["uncommitted_operations"] == 0
