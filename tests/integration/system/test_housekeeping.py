"""The indexer with the as-of lease does the housekeeping, without an operator."""

from __future__ import annotations

import json
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hitcounter_devstack import ElasticsearchServer, RedisServer, Service
from redis import Redis

from tests.support.stack import Stack, wait_until

EXPIRED = "2020.01.01"


@pytest.fixture
def stack(redis_server: RedisServer, elasticsearch_server: ElasticsearchServer, tmp_path: Path) -> Iterator[Stack]:
    with Stack(redis_server.url, elasticsearch_server.url, tmp_path) as stack:
        yield stack


def ask(stack: Stack, path: str, method: str = "GET", body: object = None) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{stack.elasticsearch_url}/{path}",
        data=None if body is None else json.dumps(body).encode(),
        method=method,
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return dict(json.load(answer))


def make_expired_index(stack: Stack) -> None:
    """Make an index of a day that is long over, with the mapping of the days that the indexer made."""
    days = wait_until(lambda: ask(stack, f"{stack.name}-*/_mapping"), bool)
    (mapping, *_) = days.values()
    ask(stack, f"{stack.name}-{EXPIRED}", "PUT", {"settings": {"number_of_replicas": 0}, **mapping})


def has_expired_index(stack: Stack) -> bool:
    return f"{stack.name}-{EXPIRED}" in ask(stack, f"{stack.name}-*/_mapping")


def find_holder(stack: Stack, redis: Redis, indexers: list[Service]) -> Service:
    """Return the indexer that holds the as-of lease."""
    key = f"{{{stack.name}}}:as-of-lease"
    name = wait_until(lambda: redis.get(key), lambda found: found is not None)
    assert isinstance(name, bytes)
    (holder,) = [indexer for indexer in indexers if f'"{name.decode()}"' in indexer.log_text()]
    return holder


def test_expired_indices_are_deleted_and_another_indexer_goes_on_when_the_one_with_the_lease_is_killed(
    stack: Stack, redis_server: RedisServer
) -> None:
    indexers = [stack.indexer(), stack.indexer()]
    make_expired_index(stack)
    wait_until(lambda: has_expired_index(stack), lambda is_there: not is_there)
    with Redis.from_url(redis_server.url) as redis:
        holder = find_holder(stack, redis, indexers)
        assert "deleted expired indices" in holder.log_text()
        (other,) = [indexer for indexer in indexers if indexer is not holder]
        assert "deleted expired indices" not in other.log_text()
        holder.send_signal(signal.SIGKILL)
        make_expired_index(stack)
        wait_until(lambda: has_expired_index(stack), lambda is_there: not is_there)
        assert find_holder(stack, redis, indexers) is other
    assert "deleted expired indices" in other.log_text()
