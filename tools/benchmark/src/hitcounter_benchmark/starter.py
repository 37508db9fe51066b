"""Starts our processes for a measurement, each with its settings and its own log file."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from hitcounter_devstack import LOCALHOST, ElasticsearchServer, Service, free_port
from hitcounter_devstack.ports import http_status
from hitcounter_devstack.server import Command
from hitcounter_devstack.services import command_path

from hitcounter_benchmark.target import Target

ELASTICSEARCH_HEAP_MB: Final = 1024


@dataclass(frozen=True, slots=True)
class Stores:
    """The two servers of an installation, and what tells it from others on the same servers."""

    redis_url: str
    elasticsearch_url: str
    redis_prefix: str = "hitcounter"
    index_prefix: str = "hits"

    def as_environment(self) -> dict[str, str]:
        """Return the settings that lead a service there."""
        return {
            "HITCOUNTER_REDIS__URL": self.redis_url,
            "HITCOUNTER_REDIS__PREFIX": self.redis_prefix,
            "HITCOUNTER_ELASTICSEARCH__URL": self.elasticsearch_url,
            "HITCOUNTER_ELASTICSEARCH__INDEX_PREFIX": self.index_prefix,
            "HITCOUNTER_INDEX__REPLICAS": "0",  # one node has no place for a replica
        }


class MappedElasticsearch(ElasticsearchServer):
    """An Elasticsearch that maps its files into memory, as it does in earnest.

    The local stack forbids it, since the kernel's limit on maps is below what Elasticsearch asks for on many machines;
    one node with a few indices needs little of it. It matters: each new document's id is looked for among those that
    are there, and reading files for that cost 17 µs of 30 µs a document.
    """

    def _prepare(self) -> Command:
        command = super()._prepare()
        return replace(command, arguments=[*command.arguments, "-Enode.store.allow_mmap=true"])


class _Endpoint(Service):
    """A server that knows no readiness: it is ready once it answers anything."""

    def is_ready(self) -> bool:
        return http_status(self.ready_url) is not None


class Starter:
    """Makes services, not started yet: each is a context manager that starts it and ends it."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs

    def endpoint(self, name: str) -> tuple[Service, Target]:
        """Return what answers in place of the API: a module of this package that takes its port as the argument."""
        port = free_port()
        command = [sys.executable, "-m", f"hitcounter_benchmark.{name}", str(port)]
        url = f"http://{LOCALHOST}:{port}/"
        return _Endpoint(command, log_file=self._logs / f"{name}.log", ready_url=url), Target(LOCALHOST, port)

    def api(self, name: str, stores: Stores) -> tuple[Service, Target]:
        """Return an API over the stores."""
        port = free_port()
        return self._service("hitcounter-api", name, stores, HITCOUNTER_HTTP__PORT=str(port)), Target(LOCALHOST, port)

    def indexer(self, name: str, stores: Stores, **settings: str) -> Service:
        """Return an indexer over the stores, with more settings by the names of their variables."""
        return self._service("hitcounter-indexer", name, stores, **settings)

    def _service(self, command: str, name: str, stores: Stores, **settings: str) -> Service:
        port = free_port()
        return Service(
            [command_path(command)],
            log_file=self._logs / f"{name}.log",
            ready_url=f"http://{LOCALHOST}:{port}/readyz",
            environment={**stores.as_environment(), "HITCOUNTER_MANAGEMENT__PORT": str(port), **settings},
        )
