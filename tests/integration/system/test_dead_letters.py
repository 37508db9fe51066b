"""Dead letters from one end to the other: how hits become some, and what the command for them does."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hitcounter.codec import build_batch, encode
from hitcounter.hits import Hit
from hitcounter.stream import Keys
from hitcounter_devstack import ElasticsearchServer, RedisServer
from hitcounter_devstack.services import command_path
from redis import Redis

from tests.support.bulk_faults import BulkFaults, Mood
from tests.support.client import RecordingClient
from tests.support.stack import Stack, wait_until
from tests.support.verdict import LONGEST, assert_counted_exactly


@pytest.fixture
def stack(redis_server: RedisServer, elasticsearch_server: ElasticsearchServer, tmp_path: Path) -> Iterator[Stack]:
    with Stack(redis_server.url, elasticsearch_server.url, tmp_path) as stack:
        yield stack


def test_documents_that_cannot_be_stored_are_dead_letters_until_they_are_sent_again_and_count_once(
    stack: Stack, elasticsearch_server: ElasticsearchServer
) -> None:
    api = stack.api()
    with BulkFaults(elasticsearch_server.url) as faults:
        stack.indexer(HITCOUNTER_ELASTICSEARCH__URL=faults.url)
        faults.mood = Mood.ITEMS_REJECTED
        with RecordingClient([api.url]) as client:
            client.wait_for(300)
        status = wait_until(api.status, lambda status: status["backlog"] == 0)
        assert status["dead"] > 0
        assert status["indexed"] > 0, "the neighbours of a bad document do not wait"
        faults.mood = Mood.HONEST

        listed = ask(stack, "list").splitlines()
        assert listed[-1] == f"{len(listed) - 1:,} dead letters with {status['dead']:,} hits"
        letter = listed[0].split()[0]
        shown = json.loads(ask(stack, "show", letter))
        assert shown["reason"] == "document_parsing_exception"
        assert shown["time"].endswith("Z")
        assert len(shown["documents"]) == len(shown["positions"])
        assert bytes.fromhex(shown["batch"])

        assert ask(stack, "replay", letter) == "1 dead letters are back in the backlog\n"
        assert "there is no dead letter" in refuse(stack, "replay", letter)
        ask(stack, "replay", "all")
        assert_counted_exactly(api, client)
        assert api.status()["duplicate"] == 0, "neighbours of a dead letter are not written again"
    assert ask(stack, "list") == "0 dead letters with 0 hits\n"
    subprocess.run([command_path("hitcounter-indexer"), "audit"], env=stack.environment, check=True)


def test_entry_that_nobody_can_read_is_a_dead_letter_again_and_again_until_it_is_discarded(stack: Stack) -> None:
    api = stack.api()
    damaged = encode(build_batch(bytes(12), 1, [Hit("a", 1_795_507_200_000)]))[:-2]
    with Redis.from_url(stack.redis_url) as redis:
        redis.xadd(Keys(stack.name).stream, {"batch": damaged, "hits": 1})
        redis.hincrby(Keys(stack.name).ledger, "accepted", 1)
    with RecordingClient([api.url]) as client:
        client.wait_for(100)
    stack.indexer()
    for _ in range(2):
        status = api.wait_drained()
        assert (status["dead"], status["accepted"]) == (1, status["indexed"] + 1)
        letter = ask(stack, "list").split()[0]
        shown = json.loads(ask(stack, "show", letter))
        assert (shown["reason"], shown["batch"]) == ("undecodable", damaged.hex())
        assert shown["documents"].startswith("unreadable")
        ask(stack, "replay", letter)
    api.wait_drained()
    letter = ask(stack, "list").split()[0]
    assert ask(stack, "discard", letter) == f"discarded {letter}\n"
    assert "there is no dead letter" in refuse(stack, "show", letter)
    assert api.status()["dead"] == 1, "it stays booked"
    assert sum(api.counts(id_)[LONGEST] for id_ in client.acknowledged) == api.status()["indexed"]


def ask(stack: Stack, *words: str) -> str:
    answer = call(stack, *words)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def refuse(stack: Stack, *words: str) -> str:
    answer = call(stack, *words)
    assert answer.returncode == 1, answer.stdout
    return answer.stderr


def call(stack: Stack, *words: str) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [command_path("hitcounter-indexer"), "dead-letters", *words]
    return subprocess.run(command, env=stack.environment, capture_output=True, text=True, check=False)
