"""Stores that come late, go away, and come back."""

from __future__ import annotations

import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from hitcounter_devstack import ElasticsearchServer, RedisServer

from tests.support.client import RecordingClient
from tests.support.stack import Api, Stack, own_elasticsearch, own_redis, wait_until
from tests.support.verdict import assert_counted_exactly

_PATIENCE = {"HITCOUNTER_INTAKE__BUDGET_SECONDS": "4"}
"""For tests in which nothing but a busy machine could make Redis slow; less than the client's own limit."""


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="hitcounter-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def test_track_answers_while_elasticsearch_comes_late_and_all_is_counted_once_it_is_up(
    redis_server: RedisServer, folder: Path
) -> None:
    with own_elasticsearch(folder) as elasticsearch, Stack(redis_server.url, elasticsearch.url, folder) as stack:
        api = stack.api(_PATIENCE)
        indexer = stack.indexer(is_awaited=False)
        with RecordingClient([api.url]) as client:
            client.wait_for(1000)
            assert set(client.answers) == {"204"}
            assert not indexer.is_ready()
            elasticsearch.start()
            elasticsearch.wait_ready()
            client.wait_for(1000)
        assert set(client.answers) == {"204"}
        indexer.wait_ready()
        assert_counted_exactly(api, client)


def test_redis_stopped_gives_503_within_a_second_and_recovery_by_itself(
    elasticsearch_server: ElasticsearchServer, folder: Path
) -> None:
    with own_redis(folder) as redis, Stack(redis.url, elasticsearch_server.url, folder) as stack:
        api = stack.api()
        indexer = stack.indexer()
        with RecordingClient([api.url]) as client:
            client.wait_for(500)
            redis.stop()
            _wait_for_answer(client, "refused")
            # A busy machine may delay any of them, and a Redis that is waited for too long delays them all.
            assert min(_seconds_until_refused(api) for _ in range(5)) < 1.0
            redis.start()
            redis.wait_ready()
            client.wait_for(500)
        assert "503 without Retry-After" not in client.answers
        assert "TimeoutError" not in client.answers
        indexer.wait_ready()
        assert_counted_exactly(api, client)


def test_redis_killed_under_load_keeps_what_was_acknowledged(
    elasticsearch_server: ElasticsearchServer, folder: Path
) -> None:
    with own_redis(folder) as redis, Stack(redis.url, elasticsearch_server.url, folder) as stack:
        api = stack.api()
        stack.indexer()
        with RecordingClient([api.url]) as client:
            for _ in range(3):
                client.wait_for(500)
                redis.kill()
                redis.start()
                redis.wait_ready()
            client.wait_for(500)
        assert_counted_exactly(api, client)


def test_parts_started_in_any_order_find_each_other(folder: Path) -> None:
    redis = RedisServer(folder / "redis")
    with own_elasticsearch(folder) as elasticsearch, Stack(redis.url, elasticsearch.url, folder) as stack:
        indexer = stack.indexer(is_awaited=False)
        api = stack.api(is_awaited=False)
        wait_until(lambda: _waits_for(api.service.ready_url), lambda text: "redis" in text)
        wait_until(lambda: _waits_for(indexer.ready_url), lambda text: "redis" in text)
        with redis:
            api.service.wait_ready()
            wait_until(
                lambda: _waits_for(indexer.ready_url), lambda text: "elasticsearch" in text and "redis" not in text
            )
            elasticsearch.start()
            elasticsearch.wait_ready()
            indexer.wait_ready()
            with RecordingClient([api.url]) as client:
                client.wait_for(100)
            assert_counted_exactly(api, client)


def _wait_for_answer(client: RecordingClient, kind: str) -> None:
    wait_until(lambda: client.answers[kind], lambda count: count > 0)


def _seconds_until_refused(api: Api) -> float:
    request = urllib.request.Request(f"{api.url}/analytics", data=b'{"id": "x"}', method="POST")
    start = time.monotonic()
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=30)
    seconds = time.monotonic() - start
    with caught.value as answer:
        assert answer.code == 503
        assert int(answer.headers["Retry-After"]) >= 1
    return seconds


def _waits_for(ready_url: str) -> str:
    try:
        with urllib.request.urlopen(ready_url, timeout=5):
            return ""
    except urllib.error.HTTPError as error:
        return error.read().decode()
