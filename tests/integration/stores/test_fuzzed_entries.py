"""Any entry at all in the stream, good, damaged or made up: each ends as the rules say, and none holds up the others.

The rules themselves are `decode` and `build_documents`, which have tests of their own; here it is asked that the stores
hold what they say, hit by hit.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from elasticsearch import AsyncElasticsearch
from hitcounter.codec import PRODUCER_BYTES, SEQUENCE_MAX, build_batch, decode, encode
from hitcounter.elastic import Indices, open_client
from hitcounter.errors import EntryTooNew, UndecodableEntry
from hitcounter.hits import BATCH_MAX_HITS, DAY_MS, ID_MAX_BYTES, KEY_MAX_BYTES, WEIGHT_MAX, Hit
from hitcounter.settings import ElasticsearchSettings, IndexSettings
from hitcounter.stream import HitStream, open_stream
from hitcounter_devstack import ElasticsearchServer, RedisServer
from hitcounter_indexer.documents import build_documents
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from tests.integration.stores.conftest import NOW_MS, count, patient_settings
from tests.integration.stores.indexers import Indexers, assert_balanced


@dataclass
class Made:
    """An entry as it is put into the stream."""

    payload: bytes
    hits: int
    """What is booked for it."""


@dataclass
class Expected:
    """What the ledger and the index must hold after all that was put into the stream."""

    accepted: int = 0
    dead: int = 0
    left: int = 0
    weights: dict[tuple[str, str], int] = field(default_factory=dict)
    """By index and id of the document: the first one stays."""

    def add(self, made: Made, prefix: str) -> None:
        self.accepted += made.hits
        try:
            documents = build_documents(decode(made.payload), prefix)
        except EntryTooNew:
            self.left += made.hits
            return
        except UndecodableEntry:
            documents = []
        if sum(document.hits for document in documents) != made.hits or not documents:
            self.dead += made.hits
            return
        for document in documents:
            self.weights.setdefault((document.index_name, document.document_id), document.n)


def texts(max_bytes: int) -> st.SearchStrategy[str]:
    characters = st.characters(exclude_categories=["Cs"])
    return st.text(characters, min_size=1, max_size=max_bytes // 4) | st.text("ab", min_size=max_bytes).map(
        lambda text: text[:max_bytes]
    )


times = st.integers(NOW_MS - DAY_MS, NOW_MS) | st.sampled_from([NOW_MS, NOW_MS - DAY_MS])
hits = st.builds(
    Hit, st.just("hot") | texts(ID_MAX_BYTES), times, st.integers(1, WEIGHT_MAX), st.just("") | texts(KEY_MAX_BYTES)
)
batches = st.builds(
    build_batch,
    st.binary(min_size=PRODUCER_BYTES, max_size=PRODUCER_BYTES),
    st.integers(1, SEQUENCE_MAX),
    st.lists(hits, min_size=1, max_size=20),
)
good = batches.map(lambda batch: Made(encode(batch), len(batch)))
misbooked = st.builds(lambda made, hits: Made(made.payload, hits), good, st.integers(0, BATCH_MAX_HITS))
made_up = st.builds(Made, st.binary(max_size=200), st.integers(0, 3))


@st.composite
def damaged(draw: st.DrawFn) -> Made:
    made = draw(good)
    payload = bytearray(made.payload)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(payload) - 1))
        payload[at] = draw(st.integers(0, 255))
    return Made(bytes(payload[: draw(st.integers(1, len(payload)))]), made.hits)


entries = st.lists(good | good | damaged() | misbooked | made_up, min_size=1, max_size=20)


@settings(max_examples=settings().max_examples // 10, suppress_health_check=[HealthCheck.too_slow])
@given(entries)
async def test_any_entries_end_as_the_rules_say_and_the_ledger_balances(
    redis_server: RedisServer, elasticsearch_server_9: ElasticsearchServer, drawn: list[Made]
) -> None:
    async with open_installation(redis_server, elasticsearch_server_9) as installation:
        stream, name = installation.stream, installation.stream.keys.prefix
        expected = Expected()
        for made in drawn:
            expected.add(made, name)
            await installation.put(made)
        await installation.indexers.build().run_until_empty()
        ledger = (await stream.monitor.status()).ledger
        assert (ledger.accepted, ledger.dead, ledger.backlog) == (expected.accepted, expected.dead, expected.left)
        assert await count(installation.client, name) == sum(expected.weights.values())
        await assert_balanced(stream)


@dataclass
class Example:
    """An installation for one list of entries."""

    stream: HitStream
    raw: Redis
    client: AsyncElasticsearch
    indexers: Indexers

    async def put(self, made: Made) -> None:
        """Put an entry into the stream, past the API."""
        async with self.raw.pipeline() as pipeline:
            pipeline.xadd(self.stream.keys.stream, {"batch": made.payload, "hits": made.hits})
            pipeline.hincrby(self.stream.keys.ledger, "accepted", made.hits)
            await pipeline.execute()


@contextlib.asynccontextmanager
async def open_installation(redis: RedisServer, elasticsearch: ElasticsearchServer) -> AsyncIterator[Example]:
    name = f"t{secrets.token_hex(6)}"
    async with (
        open_stream(patient_settings(redis.url, name)) as stream,
        Redis.from_url(redis.url, protocol=2) as raw,
        open_client(ElasticsearchSettings(url=elasticsearch.url)) as client,
    ):
        yield Example(stream, raw, client, Indexers(stream, client, Indices(client, name, IndexSettings(replicas=0))))
        made = await client.indices.get(index=f"{name}-*", expand_wildcards="all")
        await client.indices.delete(index=sorted(made.body))
        await client.indices.delete_index_template(name=f"*{name}*")
