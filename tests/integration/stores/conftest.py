"""The matrix of stores: each test runs against every supported line, under names of its own."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from elasticsearch import AsyncElasticsearch
from hitcounter.codec import PRODUCER_BYTES, HitBatch, build_batch
from hitcounter.elastic import Indices, open_client
from hitcounter.hits import Hit
from hitcounter.settings import ElasticsearchSettings, IndexSettings, RedisSettings
from hitcounter.stream import HitStream, open_stream
from hitcounter_devstack import ElasticsearchServer, RedisServer
from redis.asyncio import Redis

REDIS_SERVERS = {"redis 8.2": "redis_server", "redis 7.0": "redis_server_7", "valkey 9.1": "valkey_server"}
ELASTICSEARCH_SERVERS = {"elasticsearch 8.19": "elasticsearch_server", "elasticsearch 9.3": "elasticsearch_server_9"}

NOW_MS = 1_795_507_200_000  # 2026-11-24T08:00:00Z
TODAY = "2026.11.24"


@pytest.fixture
def name() -> str:
    """A name that no other test uses, for keys and indices."""
    return f"t{secrets.token_hex(6)}"


# ── Redis ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def patient_settings(url: str, prefix: str) -> RedisSettings:
    """A machine that starts three servers at once may need more than the default half second to connect to a fourth."""
    return RedisSettings.model_validate({"url": url, "prefix": prefix, "connect_timeout_seconds": 10})


@pytest.fixture(params=REDIS_SERVERS)
def redis(request: pytest.FixtureRequest) -> RedisServer:
    server: RedisServer = request.getfixturevalue(REDIS_SERVERS[request.param])
    return server


@pytest.fixture
def redis_settings(redis: RedisServer, name: str) -> RedisSettings:
    return patient_settings(redis.url, name)


@pytest.fixture
async def stream(redis_settings: RedisSettings) -> AsyncIterator[HitStream]:
    async with open_stream(redis_settings) as stream:
        yield stream


@pytest.fixture
async def other_stream(redis_settings: RedisSettings) -> AsyncIterator[HitStream]:
    """The same stream as another process sees it."""
    async with open_stream(redis_settings) as stream:
        yield stream


@pytest.fixture
async def raw(redis: RedisServer) -> AsyncIterator[Redis]:
    """Redis itself, past our code."""
    async with Redis.from_url(redis.url, protocol=2) as client:
        yield client


@dataclass
class Producer:
    """One life of an API process: its batches follow each other."""

    name: bytes
    sequence: int = 0

    def batch(self, *ids: str, time_ms: int = NOW_MS) -> HitBatch:
        return self.batch_of(*[Hit(id_, time_ms) for id_ in ids or ("1",)])

    def batch_of(self, *hits: Hit) -> HitBatch:
        self.sequence += 1
        return build_batch(self.name, self.sequence, hits)


@pytest.fixture
def producer() -> Producer:
    return Producer(secrets.token_bytes(PRODUCER_BYTES))


async def append(stream: HitStream, *batches: HitBatch) -> None:
    """Append the batches, one after the other."""
    for batch in batches:
        await stream.producer.append(batch, timeout_seconds=5)


# ── Elasticsearch ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(params=ELASTICSEARCH_SERVERS)
def elasticsearch(request: pytest.FixtureRequest) -> ElasticsearchServer:
    server: ElasticsearchServer = request.getfixturevalue(ELASTICSEARCH_SERVERS[request.param])
    return server


@pytest.fixture
async def client(elasticsearch: ElasticsearchServer, name: str) -> AsyncIterator[AsyncElasticsearch]:
    """A client as our parts have it. What the test made under its name is gone afterwards."""
    async with open_client(ElasticsearchSettings(url=elasticsearch.url)) as client:
        yield client
        found = await client.indices.get(index=f"{name}*", expand_wildcards="all")
        if found.body:
            await client.indices.delete(index=sorted(found.body), ignore_unavailable=True)
        await client.options(ignore_status=404).indices.delete_index_template(name=f"*{name}*")


@pytest.fixture
def index_settings() -> IndexSettings:
    return IndexSettings(replicas=0)


@pytest.fixture
def indices(client: AsyncElasticsearch, name: str, index_settings: IndexSettings) -> Indices:
    return Indices(client, name, index_settings)


async def count(client: AsyncElasticsearch, name: str, **query: Any) -> int:
    """Return the sum of n over all indices of this name, as a reader would see it."""
    await client.indices.refresh(index=f"{name}-*")
    answer = await client.search(
        index=f"{name}-*", size=0, aggs={"hits": {"sum": {"field": "n"}}}, query=query or {"match_all": {}}
    )
    return int(answer["aggregations"]["hits"]["value"])
