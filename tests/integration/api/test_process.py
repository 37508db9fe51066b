"""The command hitcounter-api as a process: how it starts, what it says, how it stops."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from hitcounter import __version__
from hitcounter_devstack import RedisServer, free_port
from hitcounter_devstack.services import command_path

from tests.integration.api.asking import Reply, track
from tests.support.proxy import FaultyWire
from tests.support.stack import Api, Stack, wait_until

NOWHERE = "http://127.0.0.1:1"


def run_command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {"PATH": os.environ["PATH"]}  # noqa: TID251 - all that the command needs from our environment
    return subprocess.run(
        [command_path("hitcounter-api"), *arguments],
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@contextlib.contextmanager
def asking_meanwhile(api: Api, requests: int) -> Iterator[list[concurrent.futures.Future[Reply]]]:
    """Keep that many requests under way during the block."""
    with concurrent.futures.ThreadPoolExecutor(requests) as pool:
        yield [pool.submit(track, api) for _ in range(requests)]


def is_listening(api: Api) -> bool:
    try:
        with contextlib.closing(urllib.request.urlopen(f"{api.url}/nothing", timeout=5)):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return True
    except OSError:
        return False


# ── starting ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_it_tells_its_version() -> None:
    assert run_command("--version").stdout == f"hitcounter-api {__version__}\n"


def test_it_prints_the_settings_in_force_without_secrets() -> None:
    result = run_command(
        "--print-config",
        HITCOUNTER_REDIS__URL="redis://someone:secret@redis:6379/0",
        HITCOUNTER_ELASTICSEARCH__URL="https://someone:secret@elasticsearch:9200",
        HITCOUNTER_ELASTICSEARCH__API_KEY="secret",
        HITCOUNTER_HTTP__PORT="9001",
    )
    assert result.returncode == 0
    assert "HITCOUNTER_HTTP__PORT=9001\n" in result.stdout
    assert "HITCOUNTER_INTAKE__LIMIT=20000\n" in result.stdout
    assert "secret" not in result.stdout


def test_wrong_settings_are_all_named_and_end_it_with_status_2() -> None:
    result = run_command(HITCOUNTER_HTTP__PORT="99999", HITCOUNTER_INTAKE__LIMIT="1", HITCOUNTER_HTTP__COLOUR="red")
    assert result.returncode == 2
    assert [line.partition(":")[0] for line in sorted(result.stderr.splitlines())] == [
        "HITCOUNTER_HTTP__COLOUR",
        "HITCOUNTER_HTTP__PORT",
        "HITCOUNTER_INTAKE__LIMIT",
    ]


@pytest.mark.parametrize("section", ["HTTP", "MANAGEMENT"])
def test_a_port_that_is_taken_is_said_in_one_sentence(section: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = {"HITCOUNTER_HTTP__PORT": str(free_port()), "HITCOUNTER_MANAGEMENT__PORT": str(free_port())}
        result = run_command(**ports | {f"HITCOUNTER_{section}__PORT": str(port)})
    assert result.returncode == 2
    last = result.stderr.splitlines()[-1]
    assert last.startswith(f"cannot listen on 127.0.0.1:{port}: ")
    assert last.endswith(f"see HITCOUNTER_{section}__PORT")
    assert "Traceback" not in result.stderr


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no dual stack")
def test_it_listens_on_ipv6_and_ipv4_with_both_ports(redis_server: RedisServer, folder: Path) -> None:
    with Stack(redis_server.url, NOWHERE, folder) as stack:
        api = stack.api(HITCOUNTER_HTTP__HOST="::", HITCOUNTER_MANAGEMENT__HOST="[::]")
        for url in (f"{api.url}/livez", api.service.ready_url):
            for host in ("127.0.0.1", "[::1]"):
                with urllib.request.urlopen(url.replace("127.0.0.1", host), timeout=5) as answer:
                    assert answer.status == 200
        assert f"http://[::]:{api.url.rpartition(':')[2]}" in api.service.log_text()


def test_it_waits_for_redis_and_says_so_and_needs_no_elasticsearch(redis_server: RedisServer, folder: Path) -> None:
    with FaultyWire(redis_server.url) as wire, Stack(wire.url, NOWHERE, folder) as stack:
        wire.refuse()
        api = stack.api(is_awaited=False)
        wait_until(api.service.log_text, lambda text: "waiting for Redis" in text)
        assert not api.service.is_ready()
        reply = track(api)
        assert (reply.status, reply.json["outcome"]) == (503, "refused")
        wire.heal()
        api.service.wait_ready()
        assert track(api).status == 204
        wire.refuse()
        assert track(api).status == 503
        assert api.service.is_ready()
        assert api.service.log_text().count("waiting for Redis") <= 2


# ── stopping ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_requests_under_way_are_finished_before_it_ends(redis_server: RedisServer, folder: Path) -> None:
    with FaultyWire(redis_server.url) as wire, Stack(wire.url, NOWHERE, folder) as stack:
        api = stack.api(HITCOUNTER_INTAKE__BUDGET_SECONDS="10")
        assert track(api).status == 204
        wire.hold_requests_with(b"EVALSHA")
        with asking_meanwhile(api, 5) as replies:
            assert wire.held.wait(60)
            api.service.send_signal(signal.SIGTERM)
            wait_until(lambda: is_listening(api), lambda listens: not listens)
            assert api.service.is_running
            wire.heal()
            wire.cut()
        assert {reply.result().status for reply in replies} == {204}
        assert api.service.wait(60) == 0
        assert "draining" in api.service.log_text()


def test_a_second_signal_ends_it_at_once(redis_server: RedisServer, folder: Path) -> None:
    with FaultyWire(redis_server.url) as wire, Stack(wire.url, NOWHERE, folder) as stack:
        api = stack.api(HITCOUNTER_INTAKE__BUDGET_SECONDS="60")
        assert track(api).status == 204
        wire.hold_requests_with(b"EVALSHA")
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            request = pool.submit(track, api)
            assert wire.held.wait(60)
            api.service.send_signal(signal.SIGTERM)
            wait_until(api.service.log_text, lambda text: "draining" in text)
            api.service.send_signal(signal.SIGTERM)
            assert api.service.wait(60) == -signal.SIGTERM
            with pytest.raises(OSError):  # noqa: PT011 - however the cut shows
                request.result()


def test_it_is_not_ready_while_it_drains(redis_server: RedisServer, folder: Path) -> None:
    with FaultyWire(redis_server.url) as wire, Stack(wire.url, NOWHERE, folder) as stack:
        api = stack.api(HITCOUNTER_INTAKE__BUDGET_SECONDS="10")
        assert track(api).status == 204
        wire.hold_requests_with(b"EVALSHA")
        with asking_meanwhile(api, 1):
            assert wire.held.wait(60)
            api.service.send_signal(signal.SIGINT)
            wait_until(api.service.is_ready, lambda is_ready: not is_ready)
            assert api.service.is_running
            wire.heal()
            wire.cut()
        assert api.service.wait(60) == 0
