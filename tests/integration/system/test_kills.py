"""SIGKILL and SIGTERM of our own parts, under load: what was acknowledged is counted, once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hitcounter_devstack import ElasticsearchServer, RedisServer

from tests.support.client import RecordingClient
from tests.support.proxy import FaultyWire
from tests.support.stack import Stack, wait_until
from tests.support.verdict import assert_counted_exactly

_SETTLE = b":dead"  # the settle script is the only command that names the dead letters
_BULK = b"_bulk"


@pytest.fixture
def stack(redis_server: RedisServer, elasticsearch_server: ElasticsearchServer, tmp_path: Path) -> Iterator[Stack]:
    with Stack(redis_server.url, elasticsearch_server.url, tmp_path) as stack:
        yield stack


def test_indexer_killed_between_bulk_and_settle_loses_and_doubles_nothing(stack: Stack) -> None:
    api = stack.api()
    with FaultyWire(stack.redis_url) as wire:
        victim = stack.indexer(HITCOUNTER_REDIS__URL=wire.url)
        wire.hold_requests_with(_SETTLE)
        with RecordingClient([api.url]) as client:
            client.wait_for(500)
            assert wire.held.wait(60), "the indexer never came to settle"
            victim.kill()
            client.wait_for(100)
    assert api.status()["indexed"] == 0, "nothing may be booked before it is settled"

    stack.indexer()
    assert_counted_exactly(api, client)
    assert api.status()["duplicate"] > 0, "the documents of the dead indexer's bulk must have been met again"


def test_indexer_killed_after_its_settle_was_sent_leaves_nothing_to_be_done_again(stack: Stack) -> None:
    api = stack.api()
    with RecordingClient([api.url]) as client:
        client.wait_for(200)
    with FaultyWire(stack.redis_url) as wire:
        wire.swallow_answers_to(_SETTLE, is_silent=True)
        victim = stack.indexer(HITCOUNTER_REDIS__URL=wire.url, HITCOUNTER_INDEXER__BULKS_IN_FLIGHT="1")
        assert wire.held.wait(60), "the indexer never came to settle"
        victim.kill()
    settled = api.status()
    assert settled["indexed"] > 0, "Redis should have settled what the indexer had sent"

    stack.indexer()
    assert_counted_exactly(api, client)
    assert api.status()["duplicate"] == 0, "what was settled must not come again"


def test_indexers_killed_again_and_again_lose_and_double_nothing(stack: Stack) -> None:
    api = stack.api()
    survivor = stack.indexer()
    with RecordingClient([api.url]) as client:
        for _ in range(4):
            victim = stack.indexer()
            client.wait_for(400)
            victim.kill()
    assert survivor.is_running
    assert_counted_exactly(api, client)


def test_api_killed_with_requests_in_flight_keeps_what_it_acknowledged(stack: Stack) -> None:
    stack.indexer()
    survivor = stack.api()
    victims = [stack.api() for _ in range(3)]
    with RecordingClient([survivor.url, *(victim.url for victim in victims)]) as client:
        for victim in victims:
            client.wait_for(500)
            victim.service.kill()
    assert client.unknown, "the kills should have met requests in flight"
    assert_counted_exactly(survivor, client)


def test_api_terminated_under_load_finishes_its_requests_and_exits_with_0(stack: Stack) -> None:
    stack.indexer()
    leaving, staying = stack.api(), stack.api()
    with RecordingClient([leaving.url, staying.url]) as client:
        client.wait_for(500)
        assert leaving.service.terminate() == 0
        client.wait_for(300)
    assert client.answers["refused"] + client.answers["not connected"] > 0, "the load should have met the closed door"
    assert_counted_exactly(staying, client)


def test_indexer_terminated_under_load_exits_with_0_and_leaves_nothing_waiting(stack: Stack) -> None:
    api = stack.api()
    leaving = stack.indexer()
    with RecordingClient([api.url]) as client:
        client.wait_for(500)
        assert leaving.terminate() == 0
    accepted = api.status()["accepted"]
    # Nothing of the one who left waits to be reclaimed: a newcomer that reclaims nothing can finish.
    stack.indexer(HITCOUNTER_INDEXER__RECLAIM_AFTER_SECONDS="600")
    wait_until(api.status, lambda status: status["backlog"] == 0 and status["accepted"] == accepted)
    assert_counted_exactly(api, client)
    assert api.status()["duplicate"] == 0


def test_a_second_signal_ends_an_indexer_at_once_and_another_takes_its_entries_over(
    stack: Stack, elasticsearch_server: ElasticsearchServer
) -> None:
    api = stack.api()
    with FaultyWire(elasticsearch_server.url) as wire:
        leaving = stack.indexer(
            HITCOUNTER_ELASTICSEARCH__URL=wire.url,
            HITCOUNTER_ELASTICSEARCH__TIMEOUT_SECONDS="60",
            HITCOUNTER_INDEXER__DRAIN_SECONDS="60",
        )
        wire.hold_requests_with(_BULK)
        with RecordingClient([api.url]) as client:
            client.wait_for(200)
            assert wire.held.wait(60), "the indexer never wrote"
            leaving.send_signal(signal.SIGTERM)
            wait_until(leaving.log_text, lambda text: "finishing the bulks under way" in text)
            leaving.send_signal(signal.SIGTERM)
            leaving.wait(60)
    assert api.status()["indexed"] == 0
    stack.indexer()
    assert_counted_exactly(api, client)


def test_entries_of_an_indexer_that_is_cut_off_from_elasticsearch_only_are_taken_over_while_it_is(stack: Stack) -> None:
    api = stack.api()
    with FaultyWire(stack.elasticsearch_url) as wire:
        cut_off = stack.indexer(HITCOUNTER_ELASTICSEARCH__URL=wire.url)
        wire.refuse()
        with RecordingClient([api.url]) as client:
            client.wait_for(200)
        assert api.status()["indexed"] == 0, "the one indexer that is there should hold entries and write none"
        stack.indexer()
        assert_counted_exactly(api, client)
        assert cut_off.is_running
