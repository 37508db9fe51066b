"""What the faults happen to: real servers and services, with a faulty wire on every way between them."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hitcounter.stream import Keys
from hitcounter_devstack import ElasticsearchServer, RedisServer
from hitcounter_devstack.part import Part
from hitcounter_devstack.services import Service
from redis import Redis

from tests.chaos.schedule import APIS, CLIENTS, ELASTICSEARCH, INDEXERS, REDIS
from tests.support.bulk_faults import BulkFaults
from tests.support.full_disk import build_redis
from tests.support.proxy import FaultyWire
from tests.support.shifted_clock import ClockedRedis
from tests.support.stack import Api, Stack

RECLAIM_SECONDS: Final = 2.0


@dataclass(frozen=True)
class Shape:
    """What an installation consists of."""

    apis: Sequence[str]
    indexers: Sequence[str]
    settings: Mapping[str, str]
    """Of our parts, beside their addresses."""
    elasticsearch_seconds: tuple[float, float] = (0.0, 0.0)
    """How far away Elasticsearch is, from each of our parts: drawn between the two."""
    has_faulty_bulks: bool = True
    has_wires_to_redis: bool = True


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


CHAOS: Final = Shape(APIS, INDEXERS, _SERVICE_SETTINGS)


class Installation:
    """APIs, indexers, a Redis and an Elasticsearch; a context manager, ready inside its block.

    Attributes:
        begun_ms: a time of the day that counts as today, whatever midnight comes during the run.
        parts: all processes, by the names that the schedule uses.
        wires: what stands between two of them, by names such as `api-0/redis`.
        bulk_faults: stands between all indexers and Elasticsearch.
    """

    def __init__(self, folder: Path, seed: int, shape: Shape = CHAOS) -> None:
        self.shape = shape
        self.begun_ms = time.time_ns() // 1_000_000
        self._folder = folder
        self._draw = random.Random(seed)
        self._replicas = itertools.count()
        self._open = contextlib.ExitStack()
        self.redis = ClockedRedis(folder / REDIS, binary=build_redis(folder), options=_REDIS_OPTIONS)
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
            indexed_url = self.bulk_faults.url if self.shape.has_faulty_bulks else self.elasticsearch.url
            for name in self.shape.apis:
                self.apis[name] = self.stack.api(self._wire(name, opening, self.elasticsearch.url))
                self.parts[name] = self.apis[name].service
                self.wires[f"{CLIENTS}/{name}"] = opening.enter_context(FaultyWire(self.apis[name].url))
            for name in self.shape.indexers:
                self.parts[name] = self.stack.indexer(self._wire(name, opening, indexed_url))
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

    def build_replica(self) -> RedisServer:
        """Return another Redis, to be a replica for a while."""
        return RedisServer(self._folder / f"replica-{next(self._replicas)}", options=_REDIS_OPTIONS)

    def find_publisher(self) -> str:
        """Return the name of the indexer that publishes the as-of; any if none does at present."""
        with Redis.from_url(self.redis.url, socket_timeout=5.0) as redis:
            holder = redis.get(Keys(self.stack.name).as_of_lease)
        names = {_read_consumer(self.services[name]): name for name in self.shape.indexers}
        return names.get(holder.decode() if isinstance(holder, bytes) else "", self.shape.indexers[0])

    def approach_elasticsearch(self) -> None:
        """Make Elasticsearch as near as the machine allows."""
        for name, wire in self.wires.items():
            if name.endswith(f"/{ELASTICSEARCH}"):
                wire.set_latency(0.0)

    def _wire(self, name: str, opening: contextlib.ExitStack, elasticsearch_url: str) -> dict[str, str]:
        seconds = self._draw.uniform(*self.shape.elasticsearch_seconds)
        to_elasticsearch = opening.enter_context(FaultyWire(elasticsearch_url, latency_seconds=seconds))
        self.wires[f"{name}/{ELASTICSEARCH}"] = to_elasticsearch
        addresses = {"HITCOUNTER_ELASTICSEARCH__URL": to_elasticsearch.url}
        if self.shape.has_wires_to_redis:
            to_redis = opening.enter_context(FaultyWire(self.redis.url))
            self.wires[f"{name}/{REDIS}"] = to_redis
            addresses["HITCOUNTER_REDIS__URL"] = to_redis.url
        return {**self.shape.settings, **addresses}


def _read_consumer(indexer: Service) -> str:
    """Return the name that an indexer gave itself when it last started."""
    entries = [line for line in indexer.log_text().splitlines() if '"started"' in line and '"consumer"' in line]
    return str(json.loads(entries[-1])["consumer"]) if entries else ""
