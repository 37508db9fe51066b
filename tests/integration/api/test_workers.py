"""hitcounter-api --workers N: one port, several processes, and whoever dies is replaced."""

from __future__ import annotations

import os
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from hitcounter_devstack import ElasticsearchServer, RedisServer
from hitcounter_devstack.services import command_path
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.api.asking import track
from tests.integration.api.test_process import asking_meanwhile, is_listening
from tests.support.client import RecordingClient
from tests.support.proxy import FaultyWire
from tests.support.stack import Api, Stack, wait_until
from tests.support.verdict import assert_counted_exactly

NOWHERE = "http://127.0.0.1:1"
WORKERS = 3
COMMAND = (command_path("hitcounter-api"), "--workers", str(WORKERS))


@pytest.fixture
def stack(redis_server: RedisServer, elasticsearch_server: ElasticsearchServer, folder: Path) -> Iterator[Stack]:
    with Stack(redis_server.url, elasticsearch_server.url, folder) as stack:
        yield stack


def processes_of(api: Api) -> list[tuple[int, int]]:
    """Return the worker's seat and process of every start so far."""
    lines = [orjson.loads(line) for line in api.service.log_text().splitlines()]
    return [(line["worker"], line["pid"]) for line in lines if line["event"] == "started a worker"]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def metric(api: Api, name: str) -> dict[str, float]:
    """Return the values of a metric without further labels by worker."""
    with urllib.request.urlopen(api.service.ready_url.replace("/readyz", "/metrics"), timeout=10) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    assert len({family.name for family in families}) == len(families), "each family stands there once"
    return {
        sample.labels["worker"]: sample.value for family in families for sample in family.samples if sample.name == name
    }


def wait_for_starts(api: Api, number: int) -> None:
    wait_until(lambda: processes_of(api), lambda started: len(started) >= number)


def wait_for_all(api: Api) -> None:
    wait_until(lambda: metric(api, "hitcounter_accepted_hits_total"), lambda found: len(found) == WORKERS)


def test_a_killed_worker_is_replaced_and_no_acknowledged_hit_is_lost_or_doubled(stack: Stack) -> None:
    stack.indexer()
    api = stack.api(command=COMMAND)
    wait_for_all(api)
    with RecordingClient([api.url]) as client:
        for place in range(WORKERS):
            client.wait_for(300)
            os.kill(processes_of(api)[place][1], signal.SIGKILL)
            wait_for_starts(api, WORKERS + place + 1)
        client.wait_for(300)
    wait_until(api.service.is_ready, bool)  # the last one may only be starting
    assert_counted_exactly(api, client)
    assert sorted(seat for seat, _ in processes_of(api)) == sorted([*range(WORKERS)] * 2)


def test_metrics_are_those_of_all_living_workers_each_by_its_name(stack: Stack) -> None:
    api = stack.api(command=COMMAND)
    wait_for_all(api)
    for _ in range(60):
        assert track(api).status == 204
    accepted = metric(api, "hitcounter_accepted_hits_total")
    assert set(accepted) == {"0", "1", "2"}
    assert sum(accepted.values()) == 60
    wait_until(lambda: metric(api, "hitcounter_backlog_hits"), lambda backlog: set(backlog.values()) == {60.0})
    births = metric(api, "process_start_time_seconds")
    os.kill(dict(processes_of(api))[1], signal.SIGKILL)
    now = wait_until(
        lambda: metric(api, "process_start_time_seconds"),
        lambda found: len(found) == WORKERS and found["1"] != births["1"],
    )
    assert {seat: now[seat] for seat in ("0", "2")} == {seat: births[seat] for seat in ("0", "2")}
    assert metric(api, "hitcounter_accepted_hits_total")["1"] == 0


def test_a_signal_drains_all_workers_and_loses_nothing(redis_server: RedisServer, folder: Path) -> None:
    with FaultyWire(redis_server.url) as wire, Stack(wire.url, NOWHERE, folder) as stack:
        api = stack.api(command=COMMAND, HITCOUNTER_INTAKE__BUDGET_SECONDS="10")
        wait_for_all(api)
        assert track(api).status == 204
        wire.hold_requests_with(b"EVALSHA")
        with asking_meanwhile(api, 12) as replies:
            assert wire.held.wait(10)
            api.service.send_signal(signal.SIGTERM)
            wait_until(lambda: is_listening(api), lambda listens: not listens)
            assert not api.service.is_ready()
            wire.heal()
            wire.cut()
        assert {reply.result().status for reply in replies} == {204}
        assert api.service.wait(10) == 0
        assert not [pid for _, pid in processes_of(api) if is_alive(pid)]


def test_a_second_signal_ends_all_workers_at_once(redis_server: RedisServer, folder: Path) -> None:
    with FaultyWire(redis_server.url) as wire, Stack(wire.url, NOWHERE, folder) as stack:
        api = stack.api(command=COMMAND, HITCOUNTER_INTAKE__BUDGET_SECONDS="60")
        wait_for_all(api)
        assert track(api).status == 204
        wire.hold_requests_with(b"EVALSHA")
        with asking_meanwhile(api, 6) as replies:
            assert wire.held.wait(10)
            api.service.send_signal(signal.SIGTERM)
            wait_until(lambda: api.service.log_text().count("draining"), lambda count: count > WORKERS)
            api.service.send_signal(signal.SIGTERM)
            assert api.service.wait(5) == -signal.SIGTERM
            wait_until(lambda: [pid for _, pid in processes_of(api) if is_alive(pid)], lambda living: not living, 10)
        assert any(reply.exception() for reply in replies)


def test_workers_whose_supervisor_was_killed_drain(stack: Stack) -> None:
    api = stack.api(command=COMMAND)
    wait_for_all(api)
    os.kill(api.service.pid, signal.SIGKILL)
    wait_until(lambda: [pid for _, pid in processes_of(api) if is_alive(pid)], lambda living: not living, 10)
    assert api.service.log_text().count("the supervisor is gone") == WORKERS


def test_a_worker_that_hangs_makes_the_process_look_stuck_and_its_neighbours_go_on(stack: Stack) -> None:
    api = stack.api(command=COMMAND)
    wait_for_all(api)
    _, victim = processes_of(api)[0]
    os.kill(victim, signal.SIGSTOP)
    try:
        wait_until(lambda: metric(api, "hitcounter_accepted_hits_total"), lambda found: len(found) == WORKERS - 1)
        wait_until(lambda: is_live(api), lambda is_live: not is_live)
    finally:
        os.kill(victim, signal.SIGCONT)
    wait_until(lambda: is_live(api), bool)


def is_live(api: Api) -> bool:
    try:
        with urllib.request.urlopen(api.service.ready_url.replace("/readyz", "/livez"), timeout=10):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return False
