"""Fixtures: real servers, each started when a test first needs it and stopped at the end of the session.

If a server is not available, the tests that need it fail with the command that installs it. With pytest-xdist each
worker has its own servers. The first use of a release downloads it; `hitcounter-devstack setup` does that in advance,
outside of the time limit of a test.
"""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hitcounter_devstack.distributions import ELASTICSEARCH_8, ELASTICSEARCH_9, ElasticsearchRelease
from hitcounter_devstack.elasticsearch import ElasticsearchServer
from hitcounter_devstack.errors import MissingPartError
from hitcounter_devstack.redis import RedisServer
from hitcounter_devstack.redis_binaries import find_redis, find_valkey


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A running Redis 8.2."""
    with _redis("8.2") as server:
        yield server


@pytest.fixture(scope="session")
def redis_server_7() -> Iterator[RedisServer]:
    """A running Redis 7.0: it has no WAITAOF and no XACKDEL."""
    with _redis("7.0") as server:
        yield server


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[RedisServer]:
    """A running Valkey 9.1, in the place of a Redis."""
    with _loud_when_missing():
        binary = find_valkey()
    with _scratch_folder() as folder, RedisServer(folder, binary=binary) as server:
        yield server


@pytest.fixture(scope="session")
def elasticsearch_server() -> Iterator[ElasticsearchServer]:
    """A running Elasticsearch 8.19, the one that any supported Java can run."""
    with _elasticsearch(ELASTICSEARCH_8) as server:
        yield server


@pytest.fixture(scope="session")
def elasticsearch_server_9() -> Iterator[ElasticsearchServer]:
    """A running Elasticsearch 9.3."""
    with _elasticsearch(ELASTICSEARCH_9) as server:
        yield server


@contextlib.contextmanager
def _redis(line: str) -> Iterator[RedisServer]:
    with _scratch_folder() as folder, _loud_when_missing(), RedisServer(folder, binary=find_redis(line)) as server:
        yield server


@contextlib.contextmanager
def _elasticsearch(release: ElasticsearchRelease) -> Iterator[ElasticsearchServer]:
    with _scratch_folder() as folder, _loud_when_missing(), ElasticsearchServer(folder, release=release) as server:
        yield server


@contextlib.contextmanager
def _scratch_folder() -> Iterator[Path]:
    # Not pytest's own: those are closed to the account that root's Elasticsearch runs as.
    with tempfile.TemporaryDirectory(prefix="hitcounter-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextlib.contextmanager
def _loud_when_missing() -> Iterator[None]:
    try:
        yield
    except MissingPartError as error:
        pytest.fail(str(error), pytrace=False)
