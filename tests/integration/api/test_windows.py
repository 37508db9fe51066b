"""Windows on a real Elasticsearch: right to the millisecond, over days, months and years; and never a silent gap."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from elasticsearch import AsyncElasticsearch
from hitcounter.elastic import open_client
from hitcounter.errors import IndexUnavailable
from hitcounter.hits import DAY_MS, HOUR_MS, MINUTE_MS, parse_timestamp
from hitcounter.indices import build_index, index_of, indices_of_windows
from hitcounter.settings import ElasticsearchSettings, IndexSettings
from hitcounter_api.counts import WINDOWS, CountReader, Counts
from hitcounter_devstack import ElasticsearchServer

from tests.support.proxy import FaultyWire

SERVERS = {"elasticsearch 8.19": "elasticsearch_server", "elasticsearch 9.3": "elasticsearch_server_9"}
LONGEST_MS = WINDOWS[0][1]


@pytest.fixture(params=SERVERS)
def elasticsearch(request: pytest.FixtureRequest) -> ElasticsearchServer:
    server: ElasticsearchServer = request.getfixturevalue(SERVERS[request.param])
    return server


@dataclass
class Shelf:
    """Documents under a name of their own."""

    client: AsyncElasticsearch
    prefix: str = field(default_factory=lambda: f"t{secrets.token_hex(4)}")
    made: set[str] = field(default_factory=set)

    @property
    def reader(self) -> CountReader:
        return CountReader(self.client, self.prefix, timeout_seconds=10)

    async def put(self, id_: str, *hits: tuple[int, int]) -> None:
        """Index (time, n) documents of one id, each in the index of its day."""
        for time_ms, n in hits:
            index = await self.make(time_ms)
            await self.client.index(index=index, document={"id": id_, "timestamp": time_ms, "n": n})
        await self.client.indices.refresh(index=f"{self.prefix}-*")

    async def make(self, time_ms: int) -> str:
        """Make the index of that day."""
        index = index_of(self.prefix, time_ms)
        if index not in self.made:
            self.made.add(index)
            body = build_index(self.prefix, index, IndexSettings(replicas=0))
            await self.client.indices.create(index=index, **body)  # type: ignore[arg-type]  # a plain body
        return index


@pytest.fixture
async def shelf(elasticsearch: ElasticsearchServer) -> AsyncIterator[Shelf]:
    async with open_client(ElasticsearchSettings(url=elasticsearch.url)) as client:
        shelf = Shelf(client)
        yield shelf
        if shelf.made:
            await client.indices.delete(index=sorted(shelf.made), ignore_unavailable=True)


def count_plainly(hits: Sequence[tuple[int, int]], now_ms: int) -> Counts:
    return tuple(sum(n for time_ms, n in hits if now_ms - length_ms <= time_ms < now_ms) for _, length_ms in WINDOWS)


def hits_around_every_edge(now_ms: int) -> Iterator[tuple[int, int]]:
    """Yield hits just outside, on and just inside each edge; the sums tell which of them were counted."""
    edges_ms = [now_ms] + [now_ms - length_ms for _, length_ms in WINDOWS]
    for place, (edge_ms, offset_ms) in enumerate(itertools.product(edges_ms, (-1, 0, 1))):
        yield edge_ms + offset_ms, 1 << place


@pytest.mark.parametrize(
    "now",
    [
        "2026-11-24T08:15:30.250Z",
        "2026-11-24T00:00:00.000Z",
        "2026-11-24T00:00:00.001Z",
        "2026-11-24T00:04:59.999Z",
        "2026-11-24T23:59:59.999Z",
        "2026-12-01T00:30:00.000Z",
        "2027-01-01T00:00:00.000Z",
        "2027-01-02T12:00:00.000Z",
        "2028-03-01T00:02:00.000Z",
    ],
)
async def test_window_edges_are_exact_to_the_millisecond(shelf: Shelf, now: str) -> None:
    now_ms = parse_timestamp(now)
    hits = list(hits_around_every_edge(now_ms))
    await shelf.put("edges", *hits)
    await shelf.put("another id", *[(time_ms, 1_000_000_000) for time_ms, _ in hits[:3]])
    assert await shelf.reader.read("edges", now_ms) == count_plainly(hits, now_ms)


async def test_sums_go_beyond_32_bits(shelf: Shelf) -> None:
    now_ms = parse_timestamp("2026-11-24T08:00:00Z")
    await shelf.put("heavy", (now_ms - 1, 2**40), (now_ms - 2, 2**40 + 1))
    assert await shelf.reader.read("heavy", now_ms) == (2**41 + 1,) * 5


async def test_no_index_at_all_counts_zero(shelf: Shelf) -> None:
    assert await shelf.reader.read("a", parse_timestamp("2026-11-24T08:00:00Z")) == (0,) * 5


async def test_a_missing_day_counts_zero_and_the_others_count(shelf: Shelf) -> None:
    now_ms = parse_timestamp("2026-11-24T08:00:00Z")
    await shelf.put("a", (now_ms - 1, 1), (now_ms - 2 * DAY_MS, 10))
    assert len(indices_of_windows(shelf.prefix, now_ms, LONGEST_MS)) == 4
    assert len(shelf.made) == 2
    assert await shelf.reader.read("a", now_ms) == (11, 11, 1, 1, 1)


async def test_days_that_are_over_come_from_the_cache_until_they_get_another_hit(shelf: Shelf) -> None:
    now_ms = parse_timestamp("2026-11-24T08:15:00Z")
    yesterday = index_of(shelf.prefix, now_ms - DAY_MS)
    await shelf.put("a", (now_ms - 1, 1), (now_ms - DAY_MS + HOUR_MS, 10))

    async def count_cache_hits() -> int:
        stats = await shelf.client.indices.stats(index=yesterday, metric="request_cache")
        return int(stats["indices"][yesterday]["total"]["request_cache"]["hit_count"])

    # A minute later the same hours are over.
    for later_ms in (0, MINUTE_MS):
        assert await shelf.reader.read("a", now_ms + later_ms) == (11, 11, 11, 1, 1)
    assert await count_cache_hits() == 1
    await shelf.put("a", (now_ms - DAY_MS + 2 * HOUR_MS, 100))
    assert await shelf.reader.read("a", now_ms) == (111, 111, 111, 1, 1)
    assert await shelf.reader.read("another id", now_ms) == (0,) * 5


async def test_a_closed_day_is_an_error_and_no_undercount(shelf: Shelf) -> None:
    now_ms = parse_timestamp("2026-11-24T08:00:00Z")
    await shelf.put("a", (now_ms - 1, 1), (now_ms - DAY_MS, 10))
    closed = index_of(shelf.prefix, now_ms - DAY_MS)
    await shelf.client.indices.close(index=closed)
    with pytest.raises(IndexUnavailable, match="index_closed_exception"):
        await shelf.reader.read("a", now_ms)
    await shelf.client.indices.open(index=closed, wait_for_active_shards=1)
    assert await shelf.reader.read("a", now_ms) == (11, 11, 11, 1, 1)


async def test_a_day_without_its_shard_is_an_error_and_no_undercount(shelf: Shelf) -> None:
    now_ms = parse_timestamp("2026-11-24T08:00:00Z")
    await shelf.put("a", (now_ms - 1, 1))
    lost = index_of(shelf.prefix, now_ms - DAY_MS)
    shelf.made.add(lost)
    body: Any = build_index(shelf.prefix, lost, IndexSettings(replicas=0))
    body["settings"]["index"]["routing.allocation.include._name"] = "nobody"
    await shelf.client.indices.create(index=lost, **body, wait_for_active_shards=0)
    with pytest.raises(IndexUnavailable, match=lost):
        await shelf.reader.read("a", now_ms)


async def test_an_elasticsearch_that_hangs_is_given_up_in_time(elasticsearch: ElasticsearchServer) -> None:
    with FaultyWire(elasticsearch.url) as wire:
        wire.blackhole()
        async with open_client(ElasticsearchSettings(url=wire.url)) as client:
            with pytest.raises(IndexUnavailable, match="does not answer"):
                await CountReader(client, "t", timeout_seconds=0.2).read("a", parse_timestamp("2026-11-24T08:00:00Z"))
