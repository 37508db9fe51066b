"""Two versions side by side: whoever writes and whoever reads, every hit is counted once.

There is one version of the contract so far. The next one is played by this one's code, told that it reads more and made
to write more (tests/support/next_version.py), in processes of its own beside the real commands.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hitcounter.codec import READER_VERSION
from hitcounter_devstack import ElasticsearchServer, RedisServer
from hitcounter_devstack.services import Service

from tests.support import next_version
from tests.support.client import RecordingClient
from tests.support.stack import Api, Command, Stack, wait_until
from tests.support.verdict import assert_counted_exactly


@pytest.fixture
def stack(redis_server: RedisServer, elasticsearch_server: ElasticsearchServer, tmp_path: Path) -> Iterator[Stack]:
    with Stack(redis_server.url, elasticsearch_server.url, tmp_path) as stack:
        yield stack


def test_older_indexer_counts_the_entries_of_a_newer_api(stack: Stack) -> None:
    api = start_newer_api(stack, READER_VERSION)
    stack.indexer()
    with RecordingClient([api.url]) as client:
        client.wait_for(500)
    assert_counted_exactly(api, client)


def test_upgrade_under_load_indexers_first_loses_and_doubles_nothing(stack: Stack) -> None:
    older_api, older_indexer = stack.api(), stack.indexer()
    with RecordingClient([older_api.url]) as client:
        client.wait_for(300)
        start_newer_indexer(stack)
        client.wait_for(300)
        assert older_indexer.terminate() == 0
        newer_api = start_newer_api(stack, next_version.VERSION)
        client.add_url(newer_api.url)
        client.wait_for(500)
        assert older_api.service.terminate() == 0
        client.wait_for(300)
    assert_counted_exactly(newer_api, client)


def test_upgrade_in_the_wrong_order_lets_entries_wait_for_a_newer_indexer_and_nothing_behind_them(
    stack: Stack,
) -> None:
    newer_api, older_api = start_newer_api(stack, next_version.VERSION), stack.api()
    stack.indexer()
    with RecordingClient([newer_api.url], ids=5) as early:
        early.wait_for(200)
    with RecordingClient([older_api.url], ids=10) as client:
        client.wait_for(300)
    taken_early = early.acknowledged.total() + early.unknown.total()
    wait_until(older_api.status, lambda status: status["backlog"] <= taken_early)
    status = older_api.status()
    assert status["indexed"] >= client.acknowledged.total()
    assert (status["indexed"] + status["backlog"], status["dead"]) == (status["accepted"], 0)

    start_newer_indexer(stack)
    client.acknowledged += early.acknowledged
    client.unknown += early.unknown
    assert_counted_exactly(older_api, client)


def start_newer_api(stack: Stack, min_reader: int) -> Api:
    return stack.api(command=build_command("api", min_reader))


def start_newer_indexer(stack: Stack) -> Service:
    return stack.indexer(command=build_command("indexer", next_version.VERSION))


def build_command(service: str, min_reader: int) -> Command:
    return (sys.executable, Path(next_version.__file__), service, str(min_reader))
