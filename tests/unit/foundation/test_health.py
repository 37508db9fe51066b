"""The management port: what /livez, /readyz and /metrics answer, and when."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from typing import Any

import aiohttp
import orjson
import pytest
from hitcounter.errors import ConfigurationError
from hitcounter.health import ManagementSettings, Readiness, build_management_app, open_socket, serve_management
from hitcounter.metrics import create_registry
from prometheus_client import CollectorRegistry, Counter


async def get(
    path: str,
    *,
    readiness: Readiness | None = None,
    registry: CollectorRegistry | None = None,
    is_alive: Callable[[], bool] = lambda: True,
    method: str = "GET",
) -> tuple[int, dict[bytes, bytes], bytes]:
    """Ask the application directly, without a server."""
    app = build_management_app(registry or CollectorRegistry(), readiness or Readiness(), is_alive)
    messages: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    await app({"type": "http", "method": method, "path": path}, None, send)
    start, body = messages
    return start["status"], dict(start["headers"]), body["body"]


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


# ── readiness ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_part_is_ready_once_all_that_it_waits_for_is_there() -> None:
    readiness = Readiness("redis", "elasticsearch")
    assert readiness.problems == {"redis": "not reached yet", "elasticsearch": "not reached yet"}
    readiness.clear("redis")
    assert not readiness.is_ready
    readiness.clear("elasticsearch")
    assert readiness.is_ready


def test_part_that_waits_for_nothing_is_ready() -> None:
    assert Readiness().is_ready


def test_part_that_lost_something_is_unready_until_it_is_back() -> None:
    readiness = Readiness()
    readiness.set_problem("redis", "does not answer")
    assert readiness.problems == {"redis": "does not answer"}
    readiness.clear("redis")
    assert readiness.is_ready


def test_only_news_is_worth_a_line_in_the_log() -> None:
    readiness = Readiness("redis")
    assert readiness.set_problem("redis", "does not answer")
    assert not readiness.set_problem("redis", "does not answer")
    assert readiness.set_problem("redis", "is full")
    assert readiness.clear("redis")
    assert not readiness.clear("redis")


def test_nobody_can_change_the_problems_from_outside() -> None:
    readiness = Readiness("redis")
    readiness.problems.clear()
    assert not readiness.is_ready


# ── answers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_readyz_says_what_is_waited_for_and_why() -> None:
    status, headers, body = await get("/readyz", readiness=Readiness("redis"))
    assert status == 503
    assert headers[b"content-type"] == b"application/json"
    assert orjson.loads(body) == {
        "ready": False,
        "waiting_for": {"redis": "not reached yet"},
        "warnings": {},
        "pid": os.getpid(),
    }


async def test_what_is_wrong_beside_its_job_is_reported_and_keeps_no_part_from_being_ready() -> None:
    readiness = Readiness()
    assert readiness.warn("as-of", ["it stands still"])
    assert not readiness.warn("as-of", ["it stands still"]), "it is no news"
    status, _, body = await get("/readyz", readiness=readiness)
    assert (status, orjson.loads(body)["warnings"]) == (200, {"as-of": "it stands still"})
    readiness.warn("as-of", [])
    assert readiness.warnings == {}


async def test_readyz_of_a_ready_part_is_200() -> None:
    status, _, body = await get("/readyz")
    assert (status, orjson.loads(body)) == (200, {"ready": True, "waiting_for": {}, "warnings": {}, "pid": os.getpid()})


async def test_livez_ignores_what_is_waited_for() -> None:
    assert (await get("/livez", readiness=Readiness("redis")))[0] == 200


async def test_livez_of_a_part_whose_work_stands_still_is_503() -> None:
    status, _, body = await get("/livez", is_alive=lambda: False)
    assert (status, body) == (503, b"stuck\n")


async def test_metrics_are_the_registrys_in_the_text_form() -> None:
    registry = CollectorRegistry()
    Counter("hitcounter_example", "Something.", registry=registry).inc(3)
    status, headers, body = await get("/metrics", registry=registry)
    assert status == 200
    assert headers[b"content-type"].startswith(b"text/plain; version=")
    assert b"hitcounter_example_total 3.0" in body


@pytest.mark.parametrize("path", ["/", "/livez/", "/healthz", "/metricsx"])
async def test_any_other_path_is_404_and_says_which_there_are(path: str) -> None:
    status, _, body = await get(path)
    assert status == 404
    assert b"/livez, /readyz and /metrics" in body


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/other"])
async def test_every_answer_tells_its_length(path: str) -> None:
    _, headers, body = await get(path, registry=create_registry("test"))
    assert int(headers[b"content-length"]) == len(body)


# ── the port ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_port_is_served_while_the_block_runs_and_free_after_it(free_port: int) -> None:
    settings = ManagementSettings(host="127.0.0.1", port=free_port)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{free_port}") as client:
        async with serve_management(settings, CollectorRegistry(), Readiness()), client.get("/readyz") as answer:
            assert answer.status == 200
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.get("/readyz")
    open_socket("127.0.0.1", free_port, "management").close()


async def test_signals_stay_with_the_process_while_the_port_is_served(free_port: int) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    async with serve_management(ManagementSettings(port=free_port), CollectorRegistry(), Readiness()):
        await asyncio.sleep(0)  # let the server start
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


async def test_taken_port_is_an_error_that_names_the_setting_to_change() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings = ManagementSettings(port=listener.getsockname()[1])
        with pytest.raises(ConfigurationError, match="HITCOUNTER_MANAGEMENT__PORT"):
            async with serve_management(settings, CollectorRegistry(), Readiness()):
                pass


def test_address_of_another_machine_is_an_error_that_names_the_setting_to_change() -> None:
    with pytest.raises(ConfigurationError, match=r"192\.0\.2\.1.*HITCOUNTER_HTTP__HOST"):
        open_socket("192.0.2.1", 8001, "http")


def is_answered(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=5).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no dual stack")
@pytest.mark.parametrize("host", ["::", "[::]"])
def test_any_address_of_ipv6_listens_on_ipv4_as_well(host: str, free_port: int) -> None:
    with open_socket(host, free_port, "http"):
        assert is_answered(("::1", free_port))
        assert is_answered(("127.0.0.1", free_port))


def test_port_is_shared_only_by_those_who_share_it(free_port: int) -> None:
    with (
        open_socket("127.0.0.1", free_port, "http", reuse_port=True),
        open_socket("127.0.0.1", free_port, "http", reuse_port=True),
        pytest.raises(ConfigurationError),
    ):
        open_socket("127.0.0.1", free_port, "http")


def test_taken_port_of_an_ipv6_address_is_shown_in_brackets() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"cannot listen on \[::1\]:{port}: "):
            open_socket("::1", port, "http")


@pytest.mark.parametrize(("method", "status"), [("OPTIONS", 204), ("POST", 405), ("DELETE", 405)])
async def test_methods_other_than_get_and_head_are_told_what_is_allowed(method: str, status: int) -> None:
    answer_status, headers, body = await get("/livez", method=method)
    assert (answer_status, headers[b"allow"]) == (status, b"GET, HEAD, OPTIONS")
    assert (b"content-length" in headers) is bool(body)  # RFC 9110, 8.6: a 204 has none
