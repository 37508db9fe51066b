"""Indexers inside the test's own process, over real stores."""

from __future__ import annotations

import secrets
from typing import Final

from elasticsearch import AsyncElasticsearch
from hitcounter.elastic import Indices
from hitcounter.health import Readiness
from hitcounter.ledger import Ledger
from hitcounter.stream import HitStream
from hitcounter_indexer.as_of import AsOfPublisher
from hitcounter_indexer.conditions import ELASTICSEARCH, REDIS, Conditions
from hitcounter_indexer.indexer import Indexer
from hitcounter_indexer.metrics import create_metrics
from hitcounter_indexer.settings import IndexerSection
from hitcounter_indexer.sink import ElasticsearchSink
from prometheus_client import CollectorRegistry

from tests.integration.stores.waiting import until

RECLAIM_AFTER_SECONDS: Final = 0.5


class Indexers:
    """Makes indexers over one pair of stores."""

    def __init__(self, stream: HitStream, client: AsyncElasticsearch, indices: Indices) -> None:
        self.stream = stream
        self.readiness = Readiness(REDIS, ELASTICSEARCH)
        self._client = client
        self._indices = indices

    def build(self, stream: HitStream | None = None, **settings: float) -> Indexer:
        """Build an indexer with a consumer of its own, perhaps with another way to Redis."""
        changed = {"block_ms": 10, "bulk_max_age_ms": 0, "reclaim_after_seconds": RECLAIM_AFTER_SECONDS, **settings}
        return Indexer(
            consumer=f"indexer-{secrets.token_hex(4)}",
            stream=(stream or self.stream).consumer,
            sink=ElasticsearchSink(self._client, self._indices),
            indices=self._indices,
            settings=IndexerSection.model_validate(changed),
            metrics=create_metrics(CollectorRegistry()),
            readiness=self.readiness,
        )

    def build_publisher(self, indices: Indices) -> AsOfPublisher:
        """Build what publishes the as-of, with a name of its own."""
        conditions = Conditions(self.readiness, create_metrics(CollectorRegistry()))
        return AsOfPublisher(
            self.stream.as_of, indices, conditions, name=f"publisher-{secrets.token_hex(4)}", interval_ms=500
        )

    async def drain(self) -> Ledger:
        """Index until nothing is queued or in flight, and return the ledger."""
        indexer = self.build()

        async def is_drained() -> bool:
            await indexer.run_until_empty()
            return (await self.stream.monitor.status()).entries == 0

        await until(is_drained)
        return (await self.stream.monitor.status()).ledger


async def assert_balanced(stream: HitStream) -> None:
    """Hold the ledger against what is really in the stream and in the dead letters."""
    audit = await stream.monitor.audit()
    assert audit.is_exact
    assert (audit.difference, audit.dead_difference) == (0, 0)
