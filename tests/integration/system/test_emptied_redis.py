"""A Redis that loses all it holds: what was not indexed is gone, since it was there only, and nothing else is wrong."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from hitcounter_devstack import ElasticsearchServer, RedisServer
from redis import Redis

from tests.support.client import RecordingClient
from tests.support.stack import Api, Stack, own_redis, wait_until
from tests.support.verdict import LONGEST


def flush(redis: RedisServer) -> None:
    """Empty it, as somebody may by mistake."""
    with Redis.from_url(redis.url) as connection:
        connection.flushall()


def replace(redis: RedisServer) -> None:
    """Put a new one in its place, with none of its files."""
    redis.kill()
    shutil.rmtree(redis.data_dir / "appendonlydir")
    redis.start()
    redis.wait_ready()


WAYS: Final = {"emptied": flush, "replaced by an empty one": replace}


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with (
        tempfile.TemporaryDirectory(prefix="hitcounter-", ignore_cleanup_errors=True) as folder,
        own_redis(Path(folder)) as server,
    ):
        yield server


@pytest.fixture
def stack(redis: RedisServer, elasticsearch_server: ElasticsearchServer, tmp_path: Path) -> Iterator[Stack]:
    with Stack(redis.url, elasticsearch_server.url, tmp_path) as stack:
        yield stack


@pytest.mark.parametrize("lose_all", WAYS.values(), ids=WAYS)
def test_emptied_redis_loses_what_was_not_indexed_and_counts_all_else_once(
    redis: RedisServer, stack: Stack, lose_all: Callable[[RedisServer], None]
) -> None:
    api, indexer = stack.api(), stack.indexer()
    indexed = send(api, 200)
    api.wait_drained()
    assert indexer.terminate() == 0
    lost = send(api, 200)
    assert api.status()["backlog"] >= lost.acknowledged.total()

    lose_all(redis)
    wait_until(api.status, lambda status: (status["accepted"], status["backlog"]) == (0, 0))
    stack.indexer()
    later = send(api, 200)
    status = api.wait_drained()
    assert later.acknowledged.total() <= status["accepted"] <= later.acknowledged.total() + later.unknown.total()
    assert status["indexed"] == status["accepted"], "the ledger starts anew"
    assert_counted(api, indexed.acknowledged + later.acknowledged, indexed.unknown + later.unknown)


@pytest.mark.parametrize("lose_all", WAYS.values(), ids=WAYS)
def test_redis_emptied_under_load_is_used_again_and_its_ledger_balances(
    redis: RedisServer, stack: Stack, lose_all: Callable[[RedisServer], None]
) -> None:
    api = stack.api()
    for _ in range(2):
        stack.indexer()
    with RecordingClient([api.url]) as client:
        client.wait_for(300)
        lose_all(redis)
        client.wait_for(300)
    status = api.wait_drained()
    assert status["accepted"] == status["indexed"] + status["duplicate"]
    assert 0 < status["accepted"] < client.acknowledged.total()
    assert_counted(api, Counter(), client.acknowledged + client.unknown)


def send(api: Api, hits: int) -> RecordingClient:
    with RecordingClient([api.url]) as client:
        client.wait_for(hits)
    return client


def assert_counted(api: Api, due: Counter[str], doubtful: Counter[str]) -> None:
    """Every id: due <= counted <= due + doubtful."""
    wrong = {
        id_: (due[id_], counted, doubtful[id_])
        for id_ in due | doubtful
        if not due[id_] <= (counted := api.counts(id_)[LONGEST]) <= due[id_] + doubtful[id_]
    }
    assert not wrong, f"(due, counted, doubtful) of the wrong ids: {wrong}"
