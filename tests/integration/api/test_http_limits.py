"""What one client may cost a real API: pipelines and connections."""

from __future__ import annotations

import contextlib
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hitcounter_devstack import RedisServer
from hitcounter_devstack.services import command_path

from tests.integration.api.asking import track
from tests.integration.api.pipelining import KINDS, measure, memory_of
from tests.support.stack import Api, Stack, wait_until

NOWHERE = "http://127.0.0.1:1"
MIB = 1024 * 1024
PIPELINING_SECONDS = 5.0
"""Before there was a bound, four seconds took 464 MB. For a minute: python -m tests.integration.api.pipelining."""


@pytest.fixture
def api(redis_server: RedisServer, folder: Path) -> Iterator[Api]:
    with Stack(redis_server.url, NOWHERE, folder) as stack:
        yield stack.api()


@pytest.mark.parametrize("request_", KINDS.values(), ids=KINDS)
def test_one_pipelining_connection_costs_little_memory_and_no_time_of_others(api: Api, request_: bytes) -> None:
    cost = measure(api, request_, PIPELINING_SECONDS)
    assert cost.sent_mib > 0
    assert cost.grown_mib < 20
    assert cost.median_ms < 10 + 3 * cost.median_before_ms


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 6000
    assert hard == resource.RLIM_INFINITY or hard >= needed, f"raise the hard limit of open files: ulimit -Hn {needed}"
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
def test_five_thousand_idle_connections_are_kept_and_cost_little(redis_server: RedisServer, folder: Path) -> None:
    """The API starts with a soft limit of 1,024 open files, as many a container runtime leaves it, and raises it."""
    script = 'ulimit -Sn 1024; exec "$0"'
    with Stack(redis_server.url, NOWHERE, folder) as stack, contextlib.ExitStack() as connections:
        api = stack.api(command=["sh", "-c", script, command_path("hitcounter-api")])
        before = memory_of(api)
        port = int(api.url.rpartition(":")[2])
        idle = [connections.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(5000)]
        hit = b'POST /analytics HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{"id":"a"}'
        for connection in idle:
            connection.sendall(hit)
        for connection in idle:
            connection.settimeout(30)
            assert connection.recv(1000).startswith(b"HTTP/1.1 204 ")
        assert memory_of(api) - before < 60 * MIB
        assert track(api).status == 204
        for connection in idle[::100]:
            connection.sendall(hit)
            assert connection.recv(1000).startswith(b"HTTP/1.1 204 ")
        connections.close()
        wait_until(lambda: track(api).status, lambda status: status == 204)


def test_a_hard_limit_of_files_that_is_too_low_for_the_connections_is_logged(
    redis_server: RedisServer, folder: Path
) -> None:
    script = 'ulimit -n 2000; exec "$0"'
    with Stack(redis_server.url, NOWHERE, folder) as stack:
        api = stack.api(command=["sh", "-c", script, command_path("hitcounter-api")])
        assert "the hard limit of open files is lower" in api.service.log_text()
        assert "HITCOUNTER_HTTP__MAX_CONNECTIONS" in api.service.log_text()
