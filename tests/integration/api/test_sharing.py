"""Several APIs behind one port, on a machine without pods."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hitcounter_devstack import ElasticsearchServer, RedisServer

from tests.support.client import RecordingClient
from tests.support.stack import Api, Stack
from tests.support.verdict import assert_counted_exactly

WATCHDOG_SECONDS = 0.4


@pytest.fixture
def stack(redis_server: RedisServer, elasticsearch_server: ElasticsearchServer, folder: Path) -> Iterator[Stack]:
    with Stack(redis_server.url, elasticsearch_server.url, folder) as stack:
        yield stack


def start_beside(stack: Stack, api: Api) -> Api:
    """Start one more API on the port of another."""
    port = api.url.rpartition(":")[2]
    return stack.api(HITCOUNTER_HTTP__REUSE_PORT="true", HITCOUNTER_HTTP__PORT=port)


def test_apis_share_a_port_and_one_that_is_killed_loses_and_doubles_nothing(stack: Stack) -> None:
    stack.indexer()
    api = stack.api(HITCOUNTER_HTTP__REUSE_PORT="true")
    others = [start_beside(stack, api), start_beside(stack, api)]
    with RecordingClient([api.url]) as client:
        client.wait_for(300)
        others[0].service.send_signal(signal.SIGKILL)
        client.wait_for(300)
        others[1].service.send_signal(signal.SIGTERM)
        client.wait_for(300)
        start_beside(stack, api)
        client.wait_for(300)
    assert others[1].service.wait(60) == 0
    assert_counted_exactly(api, client)


def test_systemd_is_told_that_the_loop_runs_and_hears_nothing_of_one_that_hangs(
    redis_server: RedisServer, folder: Path
) -> None:
    with (
        Stack(redis_server.url, "http://127.0.0.1:1", folder) as stack,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd,
    ):
        systemd.bind(str(folder / "notify"))
        systemd.settimeout(60)
        usec = str(int(WATCHDOG_SECONDS * 1_000_000))
        api = stack.api(NOTIFY_SOCKET=str(folder / "notify"), WATCHDOG_USEC=usec)
        for _ in range(3):
            assert systemd.recv(100) == b"WATCHDOG=1"
        os.kill(api.service.pid, signal.SIGSTOP)
        systemd.settimeout(WATCHDOG_SECONDS)
        with pytest.raises(TimeoutError):
            list(iter(lambda: systemd.recv(100), b""))
        os.kill(api.service.pid, signal.SIGCONT)
        systemd.settimeout(60)
        assert systemd.recv(100) == b"WATCHDOG=1"
