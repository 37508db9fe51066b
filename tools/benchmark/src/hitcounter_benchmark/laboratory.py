"""Where growth is measured: one Redis, one Elasticsearch, and installations on them that come and go.

Each experiment gets an installation of its own, told apart by prefixes, so that it begins with an empty queue and
empty indices; what it stored is dropped at its end.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hitcounter_devstack import ElasticsearchRelease, ElasticsearchServer, RedisServer, Service

from hitcounter_benchmark.backlog import Sample
from hitcounter_benchmark.benchmark import BenchmarkError
from hitcounter_benchmark.client import Client
from hitcounter_benchmark.documents import drop_documents
from hitcounter_benchmark.reading import read_status
from hitcounter_benchmark.starter import ELASTICSEARCH_HEAP_MB, MappedElasticsearch, Starter, Stores
from hitcounter_benchmark.target import Target

_POLL_SECONDS: Final = 0.05
_DRAIN_PATIENCE_SECONDS: Final = 900.0


@dataclass(frozen=True, slots=True)
class Bench:
    """One installation in the laboratory: a running API, and as many indexers as the experiment wants."""

    target: Target
    stores: Stores
    api: Service
    redis_pid: int
    elasticsearch_pid: int
    starter: Starter

    @contextlib.contextmanager
    def indexers(self, number: int, **settings: str) -> Iterator[list[int]]:
        """Run so many indexers inside the block; yields their pids."""
        with contextlib.ExitStack() as started:
            services = [
                self.starter.indexer(f"{self.stores.index_prefix}-indexer-{place}", self.stores, **settings)
                for place in range(number)
            ]
            for service in services:
                service.start()
            yield [started.enter_context(service).pid for service in services]

    def name_pids(self, *indexers: int) -> dict[str, int]:
        """Return the processes to watch, by name."""
        names = {f"indexer-{place}": pid for place, pid in enumerate(indexers)}
        return {"api": self.api.pid, "redis": self.redis_pid, "elasticsearch": self.elasticsearch_pid, **names}


class Laboratory:
    """The stores, running, and a way to set up an installation on them."""

    def __init__(self, redis: RedisServer, elasticsearch: ElasticsearchServer, logs: Path) -> None:
        self._redis = redis
        self._elasticsearch = elasticsearch
        self._starter = Starter(logs)
        self.versions = {"elasticsearch": elasticsearch.version, "redis": redis.version}

    @contextlib.contextmanager
    def installation(self, name: str) -> Iterator[Bench]:
        """Run a fresh API inside the block, and drop what was stored through it at the end."""
        stores = Stores(self._redis.url, self._elasticsearch.url, redis_prefix=name, index_prefix=name)
        api, target = self._starter.api(f"{name}-api", stores)
        with api:
            yield Bench(target, stores, api, self._redis.pid, self._elasticsearch.pid, self._starter)
        drop_documents(self._elasticsearch.url, name)


@contextlib.contextmanager
def running_laboratory(folder: Path, release: ElasticsearchRelease) -> Iterator[Laboratory]:
    """Start the stores, with data and logs in the folder, and end them after the block.

    Raises:
        DevstackError: A part is not to be had, or did not start.
    """
    with (
        MappedElasticsearch(folder / "elasticsearch", release=release, heap_mb=ELASTICSEARCH_HEAP_MB) as elasticsearch,
        RedisServer(folder / "redis") as redis,
    ):
        yield Laboratory(redis, elasticsearch, folder / "logs")


async def watch_drain(target: Target) -> list[Sample]:
    """Sample the queue until it is empty; the last sample is the first with a backlog of 0.

    Raises:
        BenchmarkError: It takes too long.
    """
    samples: list[Sample] = []
    started = time.monotonic()
    async with Client(target, 1) as client:
        while not samples or samples[-1].backlog:
            if (seconds := time.monotonic() - started) > _DRAIN_PATIENCE_SECONDS:
                raise BenchmarkError(f"the queue was not empty after {seconds:.0f} s")
            status = await read_status(client)
            if status is not None:
                samples.append(Sample(time.monotonic() - started, status.accepted, status.backlog))
            await asyncio.sleep(_POLL_SECONDS)
    return samples


def measure_drain(samples: list[Sample]) -> float:
    """Return the hits a second that left the queue, from the first that left to the last; 0 when there were none.

    Pure.
    """
    first = max((place for place, sample in enumerate(samples) if sample.settled == samples[0].settled), default=0)
    seconds = samples[-1].seconds - samples[first].seconds
    return (samples[-1].settled - samples[first].settled) / seconds if seconds else 0.0
