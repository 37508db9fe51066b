"""The real parts that the suite measures, each a process of its own, started and ended by the local stack.

Two installations run side by side, and only one of them is under load at a time: *track* is an API and its Redis,
*path* is an API, its Redis, an indexer and Elasticsearch.
"""

import contextlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hitcounter_devstack import LOCALHOST, ElasticsearchRelease, ElasticsearchServer, RedisServer, Service, free_port
from hitcounter_devstack.ports import http_status
from hitcounter_devstack.services import command_path

from hitcounter_benchmark.comparison import ANSWERING
from hitcounter_benchmark.target import Target

_ELASTICSEARCH_HEAP_MB = 1024


@dataclass(frozen=True, slots=True)
class Installation:
    """Something under load: where it answers, and its processes by name, the `ANSWERING` one among them."""

    target: Target
    pids: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Parts:
    """All installations of one suite, running, and the versions of the stores."""

    ceiling: Installation
    bare: Installation
    track: Installation
    path: Installation
    versions: Mapping[str, str]


class _Endpoint(Service):
    """A server that knows no readiness: it is ready once it answers anything."""

    def is_ready(self) -> bool:
        return http_status(self.ready_url) is not None


@contextlib.contextmanager
def running_parts(folder: Path, release: ElasticsearchRelease) -> Iterator[Parts]:
    """Start everything, with data and logs in the folder, and end it after the block.

    Raises:
        DevstackError: A part is not to be had, or did not start.
    """
    with contextlib.ExitStack() as started:
        elasticsearch = started.enter_context(
            ElasticsearchServer(folder / "elasticsearch", release=release, heap_mb=_ELASTICSEARCH_HEAP_MB)
        )
        track_redis = started.enter_context(RedisServer(folder / "track-redis"))
        path_redis = started.enter_context(RedisServer(folder / "path-redis"))
        nowhere = f"http://{LOCALHOST}:{free_port()}"  # Track alone must not need Elasticsearch
        starter = _Starter(folder / "logs", started)
        track, track_target = starter.api("track", track_redis.url, nowhere)
        path, path_target = starter.api("path", path_redis.url, elasticsearch.url)
        indexer = starter.service("hitcounter-indexer", "indexer", path_redis.url, elasticsearch.url)
        yield Parts(
            ceiling=starter.endpoint("ceiling"),
            bare=starter.endpoint("bare"),
            track=Installation(track_target, {ANSWERING: track.pid, "redis": track_redis.pid}),
            path=Installation(
                path_target,
                {
                    ANSWERING: path.pid,
                    "redis": path_redis.pid,
                    "indexer": indexer.pid,
                    "elasticsearch": elasticsearch.pid,
                },
            ),
            versions={"elasticsearch": elasticsearch.version, "redis": path_redis.version},
        )


class _Starter:
    """Starts our own processes, to be ended with the given stack."""

    def __init__(self, logs: Path, started: contextlib.ExitStack) -> None:
        self._logs = logs
        self._started = started

    def endpoint(self, name: str) -> Installation:
        port = free_port()
        command = [sys.executable, "-m", f"hitcounter_benchmark.{name}", str(port)]
        url = f"http://{LOCALHOST}:{port}/"
        service = _Endpoint(command, log_file=self._logs / f"{name}.log", ready_url=url)
        self._started.enter_context(service)
        return Installation(Target(LOCALHOST, port), {ANSWERING: service.pid})

    def api(self, name: str, redis_url: str, elasticsearch_url: str) -> tuple[Service, Target]:
        port = free_port()
        service = self.service(
            "hitcounter-api", f"{name}-api", redis_url, elasticsearch_url, HITCOUNTER_HTTP__PORT=str(port)
        )
        return service, Target(LOCALHOST, port)

    def service(self, command: str, name: str, redis_url: str, elasticsearch_url: str, **more: str) -> Service:
        management_port = free_port()
        environment = {
            "HITCOUNTER_REDIS__URL": redis_url,
            "HITCOUNTER_ELASTICSEARCH__URL": elasticsearch_url,
            "HITCOUNTER_INDEX__REPLICAS": "0",  # one node has no place for a replica
            "HITCOUNTER_MANAGEMENT__PORT": str(management_port),
            **more,
        }
        service = Service(
            [command_path(command)],
            log_file=self._logs / f"{name}.log",
            ready_url=f"http://{LOCALHOST}:{management_port}/readyz",
            environment=environment,
        )
        return self._started.enter_context(service)
