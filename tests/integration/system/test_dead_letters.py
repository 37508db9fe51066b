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
from hitcounter.v1.hit_pb2 import HitBatch
from hitcounter_devstack import ElasticsearchServer, RedisServer
from hitcounter_devstack.redis_users import build_credentials
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


def test_entry_for_a_newer_indexer_that_never_comes_can_be_rejected_and_the_as_of_goes_on(stack: Stack) -> None:
    api = stack.api()
    stack.indexer()
    newer = HitBatch(min_reader=2, id_rule=1, producer=bytes(12), sequence=1, ids=["a"], time_offsets_ms=[0])
    with Redis.from_url(stack.redis_url) as redis:
        entry = redis.xadd(Keys(stack.name).stream, {"batch": newer.SerializeToString(), "hits": 1}).decode()
        redis.hincrby(Keys(stack.name).ledger, "accepted", 1)
    listed = wait_until(lambda: ask_entries(stack, "list", "--older-than", "1"), lambda text: entry in text)
    assert "for a newer indexer (needs a reader of version 2" in listed
    assert "1 entries with 1 hits" in listed
    assert api.status()["backlog"] == 1
    assert ask_entries(stack, "reject", entry) == f"rejected {entry}: its 1 hits are a dead letter\n"
    status = api.wait_drained()
    assert (status["accepted"], status["dead"], status["backlog"]) == (1, 1, 0)
    assert "rejected: by hitcounter-indexer entries reject" in ask(stack, "list")
    again = call_command(stack, "entries", "reject", entry)
    assert (again.returncode, again.stdout) == (1, "")
    assert f"there is no entry {entry}" in again.stderr
    assert call_command(stack, "audit").returncode == 0


def ask_entries(stack: Stack, *words: str) -> str:
    answer = call_command(stack, "entries", *words)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def ask(stack: Stack, *words: str) -> str:
    answer = call(stack, *words)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def refuse(stack: Stack, *words: str) -> str:
    answer = call(stack, *words)
    assert answer.returncode == 1, answer.stdout
    return answer.stderr


def call(stack: Stack, *words: str) -> subprocess.CompletedProcess[str]:
    return call_command(stack, "dead-letters", *words)


def call_command(stack: Stack, *words: str) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [command_path("hitcounter-indexer"), *words]
    environment = {**stack.environment, **build_credentials("indexer")}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
