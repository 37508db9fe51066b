"""Answers that get lost on their way: what was done is not done again, and what was not done is not taken for done."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hitcounter_devstack import ElasticsearchServer, RedisServer

from tests.support.proxy import FaultyWire
from tests.support.stack import Api, Stack, wait_until
from tests.support.verdict import LONGEST

_ACCEPT = b"EVALSHA"
_READ = b"XREADGROUP"
_SETTLE = b":dead"  # the settle script is the only command that names the dead letters
_BULK = b"_bulk"


@dataclass
class LossyStack:
    """An installation with one API and one indexer, and the wires between them and their stores."""

    stack: Stack
    api: Api
    api_to_redis: FaultyWire
    indexer_to_redis: FaultyWire
    indexer_to_elasticsearch: FaultyWire

    def status(self) -> dict[str, Any]:
        """Return the status, once the API has seen that Redis is back."""
        return wait_until(self.api.status, bool)

    def start_indexer(self, **settings: str) -> None:
        """Start the indexer; a time-out that is short must be that of the store whose answers get lost."""
        self.stack.indexer(
            settings,
            HITCOUNTER_REDIS__URL=self.indexer_to_redis.url,
            HITCOUNTER_ELASTICSEARCH__URL=self.indexer_to_elasticsearch.url,
        )


@pytest.fixture
def lossy(redis_server: RedisServer, elasticsearch_server: ElasticsearchServer, tmp_path: Path) -> Iterator[LossyStack]:
    with (
        Stack(redis_server.url, elasticsearch_server.url, tmp_path) as stack,
        FaultyWire(redis_server.url) as api_to_redis,
        FaultyWire(redis_server.url) as indexer_to_redis,
        FaultyWire(elasticsearch_server.url) as indexer_to_elasticsearch,
    ):
        # A budget that a busy machine leaves room in for a second attempt.
        api = stack.api(HITCOUNTER_REDIS__URL=api_to_redis.url, HITCOUNTER_INTAKE__BUDGET_SECONDS="2")
        yield LossyStack(stack, api, api_to_redis, indexer_to_redis, indexer_to_elasticsearch)


# ── accept ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("is_silent", [False, True], ids=["cut", "timed out"])
def test_accept_whose_answer_was_lost_is_repeated_and_counts_once(lossy: LossyStack, is_silent: bool) -> None:
    for number in range(1, 6):
        lossy.api_to_redis.swallow_answers_to(_ACCEPT, is_silent=is_silent)
        assert _track(lossy.api) == 204
        assert lossy.api_to_redis.held.is_set(), "the answer should have been lost"
        status = lossy.status()
        assert (status["accepted"], status["entries"]) == (number, number)
    lossy.start_indexer()
    assert lossy.api.wait_drained()["indexed"] == 5
    assert lossy.api.counts("x")[LONGEST] == 5


@pytest.mark.parametrize("is_silent", [False, True], ids=["cut", "timed out"])
def test_accept_whose_answers_are_all_lost_is_called_unknown_and_is_there_once(
    lossy: LossyStack, is_silent: bool
) -> None:
    lossy.api_to_redis.swallow_answers_to(_ACCEPT, times=1000, is_silent=is_silent)
    problem = _track_refused(lossy.api)
    assert problem["outcome"] == "unknown"
    lossy.api_to_redis.heal()
    assert _track(lossy.api) == 204
    status = lossy.status()
    assert (status["accepted"], status["entries"]) == (2, 2)


def test_accept_that_never_arrived_is_called_unknown_and_is_not_there(lossy: LossyStack) -> None:
    assert _track(lossy.api) == 204  # so that a connection is open
    lossy.api_to_redis.blackhole()
    assert _track_refused(lossy.api)["outcome"] == "unknown"
    lossy.api_to_redis.cut()
    lossy.api_to_redis.heal()
    assert lossy.status()["accepted"] == 1


def test_accept_that_arrives_after_its_own_repetition_and_later_hits_adds_nothing(lossy: LossyStack) -> None:
    assert _track(lossy.api) == 204
    lossy.api_to_redis.hold_requests_with(_ACCEPT)
    # The first attempt is held on the old connection, and so are those on new ones, while the marker is looked for.
    assert _track_refused(lossy.api)["outcome"] == "unknown"
    lossy.api_to_redis.heal()
    assert _track(lossy.api) == 204
    assert lossy.status()["accepted"] == 2
    lossy.api_to_redis.release()
    assert _track(lossy.api) == 204
    status = lossy.status()
    assert (status["accepted"], status["entries"]) == (3, 3), "a batch that comes late must be refused as stale"


# ── the indexer's side ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("is_silent", [False, True], ids=["cut", "timed out"])
def test_settle_whose_answer_was_lost_is_repeated_and_books_once(lossy: LossyStack, is_silent: bool) -> None:
    lossy.start_indexer(HITCOUNTER_REDIS__TIMEOUT_SECONDS="1.6")
    for number in range(1, 4):
        lossy.indexer_to_redis.swallow_answers_to(_SETTLE, is_silent=is_silent)
        assert _track(lossy.api) == 204
        assert lossy.indexer_to_redis.held.wait(60), "the indexer never came to settle"
        status = lossy.api.wait_drained()
        assert (status["accepted"], status["indexed"], status["duplicate"]) == (number, number, 0)
    assert lossy.api.counts("x")[LONGEST] == 3


def test_entries_whose_delivery_was_lost_are_reclaimed_and_indexed_once(lossy: LossyStack) -> None:
    lossy.start_indexer()
    # The indexer's read that waits now is not looked at any more: this meets the one after it, which finds the hits.
    lossy.indexer_to_redis.swallow_answers_to(_READ)
    for _ in range(50):
        assert _track(lossy.api) == 204
    assert lossy.indexer_to_redis.held.wait(60), "no delivery was lost"
    status = lossy.api.wait_drained()
    assert (status["indexed"], status["duplicate"]) == (50, 0)
    assert lossy.api.counts("x")[LONGEST] == 50


@pytest.mark.parametrize("is_silent", [False, True], ids=["cut", "timed out"])
def test_bulk_whose_answer_was_lost_is_repeated_and_meets_its_own_documents(lossy: LossyStack, is_silent: bool) -> None:
    lossy.start_indexer(HITCOUNTER_ELASTICSEARCH__TIMEOUT_SECONDS="2")
    lossy.indexer_to_elasticsearch.swallow_answers_to(_BULK, is_silent=is_silent)
    for _ in range(20):
        assert _track(lossy.api) == 204
    assert lossy.indexer_to_elasticsearch.held.wait(60), "no answer was lost"
    status = lossy.api.wait_drained()
    assert status["duplicate"] > 0, "the documents of the bulk must have been met again"
    assert status["indexed"] + status["duplicate"] == 20
    assert lossy.api.counts("x")[LONGEST] == 20


def _track(api: Api) -> int:
    request = urllib.request.Request(f"{api.url}/analytics", data=b'{"id": "x"}', method="POST")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return int(answer.status)


def _track_refused(api: Api) -> dict[str, object]:
    with pytest.raises(urllib.error.HTTPError) as caught:
        _track(api)
    assert caught.value.code == 503
    return dict(json.load(caught.value))
