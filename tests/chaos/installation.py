"""What the faults happen to: real servers and services, with a faulty wire on every way between them."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

from hitcounter_devstack import ElasticsearchServer, RedisServer
from hitcounter_devstack.part import Part
from hitcounter_devstack.services import Service

from tests.chaos.schedule import APIS, CLIENTS, ELASTICSEARCH, INDEXERS, REDIS
from tests.support.bulk_faults import BulkFaults
from tests.support.full_disk import build_redis
from tests.support.proxy import FaultyWire
from tests.support.stack import Api, Stack

RECLAIM_SECONDS: Final = 2.0

_SERVICE_SETTINGS: Final = {
    "HITCOUNTER_INDEXER__RECLAIM_AFTER_SECONDS": str(RECLAIM_SECONDS),
    # Shorter than most faults, so that time-outs happen.
    "HITCOUNTER_REDIS__TIMEOUT_SECONDS": "2",
    "HITCOUNTER_ELASTICSEARCH__TIMEOUT_SECONDS": "4",
    "HITCOUNTER_READS__TIMEOUT_SECONDS": "2",
}
# By everysec Redis answers before it writes while an earlier sync is slow: a kill in that moment loses a second of
# what it had answered, page cache or not. So does `no` not, and `always` survives even a power cut.
_REDIS_OPTIONS: Final = {"appendfsync": "always"}


class Installation:
    """Two APIs, three indexers, a Redis and an Elasticsearch; a context manager, ready inside its block.

    Attributes:
        parts: all processes, by the names that the schedule uses.
        wires: what stands between two of them, by names such as `api-0/redis`.
        bulk_faults: stands between all indexers and Elasticsearch.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._open = contextlib.ExitStack()
        self.redis = RedisServer(folder / REDIS, binary=build_redis(folder), options=_REDIS_OPTIONS)
        self.elasticsearch = ElasticsearchServer(folder / ELASTICSEARCH)
        self.bulk_faults = BulkFaults(self.elasticsearch.url, seed=seed)
        self.wires: dict[str, FaultyWire] = {}
        self.apis: dict[str, Api] = {}
        self.parts: dict[str, Part] = {REDIS: self.redis, ELASTICSEARCH: self.elasticsearch}
        self.stack = Stack(self.redis.url, self.elasticsearch.url, folder)

    def __enter__(self) -> Installation:
        with contextlib.ExitStack() as opening:
            for piece in (self.redis, self.elasticsearch, self.bulk_faults, self.stack):
                opening.enter_context(piece)
            for name in APIS:
                self.apis[name] = self.stack.api(self._wire(name, opening, self.elasticsearch.url))
                self.parts[name] = self.apis[name].service
                self.wires[f"{CLIENTS}/{name}"] = opening.enter_context(FaultyWire(self.apis[name].url))
            for name in INDEXERS:
                self.parts[name] = self.stack.indexer(self._wire(name, opening, self.bulk_faults.url))
            self._open = opening.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @property
    def faulty_ways(self) -> list[str]:
        """Addresses of the APIs for clients with a faulty wire before them."""
        return [self.wires[f"{CLIENTS}/{name}"].url for name in self.apis]

    @property
    def services(self) -> dict[str, Service]:
        """Our own parts."""
        return {name: part for name, part in self.parts.items() if isinstance(part, Service)}

    def wait_ready(self, timeout_seconds: float) -> None:
        """Block until every part serves.

        Raises:
            StartError: one does not.
        """
        for part in self.parts.values():
            part.wait_ready(timeout_seconds)

    def _wire(self, name: str, opening: contextlib.ExitStack, elasticsearch_url: str) -> dict[str, str]:
        to_redis = opening.enter_context(FaultyWire(self.redis.url))
        to_elasticsearch = opening.enter_context(FaultyWire(elasticsearch_url))
        self.wires |= {f"{name}/{REDIS}": to_redis, f"{name}/{ELASTICSEARCH}": to_elasticsearch}
        return {
            **_SERVICE_SETTINGS,
            "HITCOUNTER_REDIS__URL": to_redis.url,
            "HITCOUNTER_ELASTICSEARCH__URL": to_elasticsearch.url,
        }
