"""The services that the suite measures, each in its own process, started and stopped by the local stack.

There are two installations, and only one of them is under load at a time: *track* has an API and its Redis, *path* has
an API, its Redis, an indexer and Elasticsearch.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hitcounter_devstack import LOCALHOST, ElasticsearchRelease, RedisServer, free_port

from hitcounter_benchmark.comparison import ANSWERING
from hitcounter_benchmark.starter import ELASTICSEARCH_HEAP_MB, MappedElasticsearch, Starter, Stores
from hitcounter_benchmark.target import Target


@dataclass(frozen=True, slots=True)
class Installation:
    """Something under load: where it answers, and its processes by name, the `ANSWERING` one among them."""

    target: Target
    pids: Mapping[str, int]
    elasticsearch_url: str | None = None
    """Where its documents are; None where it has none."""


@dataclass(frozen=True, slots=True)
class Parts:
    """All installations of one suite, running, and the versions of the stores."""

    ceiling: Installation
    bare: Installation
    track: Installation
    path: Installation
    versions: Mapping[str, str]


@contextlib.contextmanager
def running_parts(folder: Path, release: ElasticsearchRelease) -> Iterator[Parts]:
    """Start everything, with data and logs in the folder, and end it after the block.

    Raises:
        DevstackError: A part is not to be had, or did not start.
    """
    with contextlib.ExitStack() as started:
        elasticsearch = started.enter_context(
            MappedElasticsearch(folder / "elasticsearch", release=release, heap_mb=ELASTICSEARCH_HEAP_MB)
        )
        track_redis = started.enter_context(RedisServer(folder / "track-redis"))
        path_redis = started.enter_context(RedisServer(folder / "path-redis"))
        nowhere = f"http://{LOCALHOST}:{free_port()}"  # Track alone must not need Elasticsearch
        path_stores = Stores(path_redis.url, elasticsearch.url)
        starter = Starter(folder / "logs")
        track, track_target = starter.api("track-api", Stores(track_redis.url, nowhere))
        path, path_target = starter.api("path-api", path_stores)
        indexer = starter.indexer("indexer", path_stores)
        bare, bare_target = starter.endpoint("bare")
        ceiling, ceiling_target = starter.endpoint("ceiling")
        for service in (track, path, indexer, bare, ceiling):
            started.enter_context(service)
        path_pids = {
            ANSWERING: path.pid,
            "redis": path_redis.pid,
            "indexer": indexer.pid,
            "elasticsearch": elasticsearch.pid,
        }
        yield Parts(
            ceiling=Installation(ceiling_target, {ANSWERING: ceiling.pid}),
            bare=Installation(bare_target, {ANSWERING: bare.pid}),
            track=Installation(track_target, {ANSWERING: track.pid, "redis": track_redis.pid}),
            path=Installation(path_target, path_pids, elasticsearch.url),
            versions={"elasticsearch": elasticsearch.version, "redis": path_redis.version},
        )
