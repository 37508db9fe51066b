"""The disk of Redis is full: nothing is acknowledged that is not kept, and all goes on by itself when there is room."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hitcounter_devstack import ElasticsearchServer, RedisServer
from redis import Redis

from tests.support.client import RecordingClient
from tests.support.full_disk import build_redis, full_disk
from tests.support.stack import Stack, wait_until
from tests.support.verdict import assert_counted_exactly


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis", binary=build_redis(tmp_path)) as server:
        yield server


def test_track_refuses_while_the_disk_of_redis_is_full_and_all_that_was_acknowledged_is_counted(
    redis: RedisServer, elasticsearch_server: ElasticsearchServer
) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        Stack(redis.url, elasticsearch_server.url, Path(folder)) as stack,
    ):
        api = stack.api()
        stack.indexer()
        with RecordingClient([api.url]) as client:
            client.wait_for(500)
            with full_disk(redis):
                _wait_until_refused(client)
            client.wait_for(500)
        assert_counted_exactly(api, client)


def test_what_was_acknowledged_around_a_full_disk_survives_a_kill_of_redis(
    redis: RedisServer, elasticsearch_server: ElasticsearchServer
) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        Stack(redis.url, elasticsearch_server.url, Path(folder)) as stack,
    ):
        api = stack.api(HITCOUNTER_REDIS__TIMEOUT_SECONDS="2")
        with Redis.from_url(redis.url) as client_of_redis:
            client_of_redis.config_set("appendfsync", "always")  # by everysec a kill may take what is not synced yet
            client_of_redis.bgrewriteaof()  # after one, a write that is cut short leaves a hole in the file
            wait_until(lambda: client_of_redis.info("persistence"), lambda seen: not seen["aof_rewrite_in_progress"])
        with RecordingClient([api.url]) as client:
            client.wait_for(500)
            with full_disk(redis):
                _wait_until_refused(client)
            client.wait_for(500)
            redis.kill()
            redis.start()
            redis.wait_ready()
            client.wait_for(500)
        stack.indexer()
        assert_counted_exactly(api, client)


def _wait_until_refused(client: RecordingClient) -> None:
    wait_until(lambda: client.answers["refused"], lambda refused: refused > 100)
