"""Clocks that are wrong, that jump, or that only move on: what a hit's time comes from, and what a key outlives."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID

import pytest
from hitcounter_devstack import ElasticsearchServer, RedisServer
from hitcounter_devstack.services import command_path

from tests.support.shifted_clock import ShiftedClock
from tests.support.stack import Api, Stack, wait_until
from tests.support.verdict import LONGEST

_HOUR: Final = 3600.0
_DAY: Final = 24 * _HOUR


class Request(NamedTuple):
    """One way to send a hit."""

    body: Mapping[str, str]
    key_header: str | None = None


@pytest.fixture
def stack(redis_server: RedisServer, elasticsearch_server: ElasticsearchServer, tmp_path: Path) -> Iterator[Stack]:
    with Stack(redis_server.url, elasticsearch_server.url, tmp_path) as stack:
        yield stack


def test_hits_get_the_time_of_their_apis_clock_and_none_is_lost_when_it_jumps(stack: Stack, tmp_path: Path) -> None:
    clock = ShiftedClock(tmp_path)
    jumping, right = stack.api(clock.environment), stack.api()
    stack.indexer()
    for shift in (0.0, 3 * _HOUR, -26 * _HOUR, 0.0):
        clock.set(shift)
        track(jumping, Request({"id": "a"}))
    status = right.wait_drained()
    assert (status["accepted"], status["indexed"], status["dead"]) == (4, 4, 0)
    assert list(right.counts("a").values()) == [3, 3, 2, 2, 2], "what lies ahead is counted when its time has come"
    clock.set(3 * _HOUR + 60)
    assert list(jumping.counts("a").values()) == [4, 4, 3, 1, 1]


def test_key_sent_again_at_once_through_another_api_an_hour_later_and_across_midnight_counts_once(
    stack: Stack, tmp_path: Path
) -> None:
    half_a_minute_to_midnight = time.time() // _DAY * _DAY - 30
    clock = ShiftedClock(tmp_path, seconds=half_a_minute_to_midnight - time.time())
    ways = spell_twice(half_a_minute_to_midnight)
    early = stack.api(clock.environment)
    for request in ways:  # nobody indexes yet: the first still waits when the second comes
        track(early, request)
    stack.indexer()
    early.wait_drained()
    clock.set(half_a_minute_to_midnight + _HOUR - time.time())
    assert datetime.fromtimestamp(clock.time(), UTC).hour == 0, "the clock should have passed midnight"
    late = stack.api(clock.environment)
    for request in reversed(ways):
        track(late, request)
    status = late.wait_drained()
    assert (status["accepted"], status["indexed"], status["duplicate"]) == (8, 2, 6)
    assert [stack.api().counts(id_)[LONGEST] for id_ in ("uuid", "stamped")] == [1, 1]


@pytest.mark.parametrize("days", [10, -10])
def test_retention_drops_nothing_on_a_machine_whose_clock_is_wrong(stack: Stack, tmp_path: Path, days: int) -> None:
    api = stack.api()
    stack.indexer()
    track(api, Request({"id": "a"}))
    api.wait_drained()
    clock = ShiftedClock(tmp_path, seconds=days * _DAY)
    for options in ([], ["--dry-run"]):
        done = run_retention(stack, clock.environment, *options)
        assert (done.returncode, done.stdout) == (1, "")
        assert f"864000 s {'ahead of' if days > 0 else 'behind'} that of Redis" in done.stderr
        assert "Traceback" not in done.stderr
    assert api.counts("a")[LONGEST] == 1
    assert run_retention(stack, {}).returncode == 0


@pytest.mark.parametrize("days", [10, -10])
def test_indexer_with_the_lease_deletes_nothing_while_its_clock_is_wrong_and_says_so(
    stack: Stack, tmp_path: Path, days: int
) -> None:
    api = stack.api()
    right = stack.indexer()
    track(api, Request({"id": "a"}))
    api.wait_drained()
    right.stop()
    wrong = stack.indexer(ShiftedClock(tmp_path, seconds=days * _DAY).environment)
    fault = f"no index is deleted: the clock of this machine is 864000 s {'ahead of' if days > 0 else 'behind'} that"
    wait_until(wrong.log_text, lambda text: fault in text)
    assert api.counts("a")[LONGEST] == 1


def test_retention_drops_nothing_while_there_is_no_redis_to_compare_clocks_with(stack: Stack) -> None:
    done = run_retention(stack, {"HITCOUNTER_REDIS__URL": "redis://127.0.0.1:1"})
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1


def run_retention(stack: Stack, environment: Mapping[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [command_path("hitcounter-indexer"), "retention", *options],
        env={**os.environ, **stack.environment, **environment},  # noqa: TID251 - with our settings over it
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def spell_twice(at: float) -> list[Request]:
    """Return two hits of that time, one with a UUIDv7 and one with any key and a timestamp, each in two spellings."""
    uuid = build_uuid7(at)
    stamp = datetime.fromtimestamp(at, UTC).isoformat()
    return [
        Request({"id": "uuid", "key": uuid}),
        Request({"id": "uuid"}, key_header=uuid),
        Request({"id": "stamped", "key": "order-17", "timestamp": stamp}),
        Request({"id": "stamped", "timestamp": stamp}, key_header="order-17"),
    ]


def build_uuid7(at: float) -> str:
    variant, version = 0x2 << 62, 0x7 << 76
    return str(UUID(int=round(at * 1000) << 80 | version | secrets.randbits(12) << 64 | variant | secrets.randbits(62)))


def track(api: Api, request: Request) -> None:
    headers = {} if request.key_header is None else {"Idempotency-Key": request.key_header}
    asked = urllib.request.Request(f"{api.url}/analytics", data=json.dumps(request.body).encode(), headers=headers)
    with urllib.request.urlopen(asked, timeout=10) as answer:
        assert answer.status == 204
