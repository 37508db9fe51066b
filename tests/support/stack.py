"""A whole installation on real parts: Redis, Elasticsearch, APIs and indexers, each in a process of its own."""

from __future__ import annotations

import contextlib
import json
import secrets
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from hitcounter_devstack import ElasticsearchServer, RedisServer, free_port
from hitcounter_devstack.redis_users import build_credentials
from hitcounter_devstack.services import Service, command_path

_T = TypeVar("_T")
Command = Sequence[str | Path]
"""A program and its arguments."""


class Stack:
    """One installation: its own names in stores that it may share with others.

    Args:
        redis_url: where its Redis is (or a faulty wire to it).
        elasticsearch_url: the same for Elasticsearch.
        folder: for the logs.
    """

    def __init__(self, redis_url: str, elasticsearch_url: str, folder: Path) -> None:
        self.name = f"t{secrets.token_hex(4)}"
        self.redis_url = redis_url
        self.elasticsearch_url = elasticsearch_url
        self._folder = folder
        self._services = contextlib.ExitStack()
        self._count = 0

    def __enter__(self) -> Stack:
        return self

    def __exit__(self, *_: object) -> None:
        self._services.close()

    @property
    def environment(self) -> dict[str, str]:
        """What every part of this installation reads."""
        return {
            "HITCOUNTER_REDIS__URL": self.redis_url,
            "HITCOUNTER_REDIS__PREFIX": self.name,
            "HITCOUNTER_ELASTICSEARCH__URL": self.elasticsearch_url,
            "HITCOUNTER_ELASTICSEARCH__INDEX_PREFIX": self.name,
            "HITCOUNTER_INDEX__REPLICAS": "0",
            "HITCOUNTER_INDEXER__RECLAIM_AFTER_SECONDS": "2",
            "HITCOUNTER_LOG__FORMAT": "json",
        }

    def api(
        self,
        environment: Mapping[str, str] | None = None,
        *,
        command: Command | None = None,
        is_awaited: bool = True,
        **overrides: str,
    ) -> Api:
        """Start an API: our command, or another one in its place."""
        port = free_port()
        environment = {"HITCOUNTER_HTTP__PORT": str(port), **(environment or {}), **overrides}
        return Api(self._start("hitcounter-api", command, environment, is_awaited=is_awaited), port)

    def indexer(
        self,
        environment: Mapping[str, str] | None = None,
        *,
        command: Command | None = None,
        is_awaited: bool = True,
        **overrides: str,
    ) -> Service:
        """Start an indexer: our command, or another one in its place."""
        return self._start("hitcounter-indexer", command, {**(environment or {}), **overrides}, is_awaited=is_awaited)

    def _start(
        self, name: str, command: Command | None, environment: Mapping[str, str], *, is_awaited: bool
    ) -> Service:
        management_port = free_port()
        self._count += 1
        service = Service(
            command or [command_path(name)],
            log_file=self._folder / f"{self._count}-{name}.log",
            ready_url=f"http://127.0.0.1:{management_port}/readyz",
            environment={
                **self.environment,
                **build_credentials(name.removeprefix("hitcounter-")),
                "HITCOUNTER_MANAGEMENT__PORT": str(management_port),
                **environment,
            },
        )
        service.start()
        self._services.callback(service.kill)
        if is_awaited:
            service.wait_ready()
        return service


class ApiClient:
    """What clients may ask of an API, wherever it runs.

    Attributes:
        url: where it is.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def status(self) -> dict[str, Any]:
        """Return GET /status."""
        with urllib.request.urlopen(f"{self.url}/status", timeout=10) as answer:
            return dict(json.load(answer))

    def counts(self, id_: str) -> dict[str, int]:
        """Return the counts of an id by their windows."""
        with urllib.request.urlopen(f"{self.url}/analytics/{urllib.parse.quote(id_, safe='')}", timeout=10) as answer:
            return {window["reference"]: window["count"] for window in json.load(answer)["counts"]}

    def wait_drained(self, timeout_seconds: float = 90.0) -> dict[str, Any]:
        """Wait until every accepted hit is settled and countable, and return the status then."""
        started = time.time()

        def is_drained(status: dict[str, Any]) -> bool:
            return status["backlog"] == 0 and status["as_of"] is not None and _seconds(status["as_of"]) > started

        return wait_until(self.status, is_drained, timeout_seconds)


class Api(ApiClient):
    """A running API, as a child process."""

    def __init__(self, service: Service, port: int) -> None:
        super().__init__(f"http://127.0.0.1:{port}")
        self.service = service


def wait_until(look: Callable[[], _T], is_enough: Callable[[_T], bool], timeout_seconds: float = 90.0) -> _T:
    """Look again and again until what is seen is enough; what fails by OSError counts as not enough.

    Raises:
        TimeoutError: it was not enough in time; with what was seen last.
    """
    deadline = time.monotonic() + timeout_seconds
    seen: object = None
    while time.monotonic() < deadline:
        try:
            found = look()
        except OSError as error:
            seen = error
        else:
            seen = found
            if is_enough(found):
                return found
        time.sleep(0.05)
    raise TimeoutError(f"not so within {timeout_seconds} s; seen last: {seen!r}")


@contextlib.contextmanager
def own_redis(folder: Path, **options: str) -> Iterator[RedisServer]:
    """A Redis of the test's own, for tests that stop or kill it."""
    with RedisServer(folder / "redis", options=options) as server:
        yield server


@contextlib.contextmanager
def own_elasticsearch(folder: Path) -> Iterator[ElasticsearchServer]:
    """An Elasticsearch of the test's own, for tests that stop or kill it; not started yet."""
    server = ElasticsearchServer(folder / "elasticsearch")
    try:
        yield server
    finally:
        server.stop()


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
