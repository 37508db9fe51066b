"""Hits of the clients that people have, each as it comes, to a real API: every hit is answered with 204 and is there.

What the project's own set-up brings has to be here: curl, a Java, Go and the Python packages. Node is not part of it,
and is tried where it is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest
from hitcounter_devstack import RedisServer
from hitcounter_devstack.java import JavaNeed, find_java

from tests.support.stack import Api, Stack

CLIENTS: Final = Path(__file__).parent / "clients"
CURL: Final = ["curl", "-s", "-o", os.devnull, "-w", "%{http_code}\n", "-d", '{"id":"curl"}']
CURL_OPTIONS: Final[dict[str, list[str]]] = {
    "as it comes": [],
    "--http2": ["--http2"],
    "--http1.0": ["--http1.0"],
    "in chunks": ["-H", "Transfer-Encoding: chunked"],
    "--http2 in chunks": ["--http2", "-H", "Transfer-Encoding: chunked"],
    "Expect": ["-H", "Expect: 100-continue"],
    "--http2 and Expect": ["--http2", "-H", "Expect: 100-continue"],
    "as a websocket": ["-H", "Connection: Upgrade", "-H", "Upgrade: websocket"],
}


@pytest.fixture
def api(redis_server: RedisServer, folder: Path) -> Iterator[Api]:
    with Stack(redis_server.url, "http://127.0.0.1:1", folder) as stack:
        yield stack.api()


def send_hits(api: Api, command: Sequence[str | Path], folder: Path) -> list[str]:
    """Run a client and return the statuses that it was answered with; checks that as many hits were accepted."""
    url = f"{api.url}/analytics"
    result = subprocess.run([*command, url], capture_output=True, text=True, check=False, timeout=240, cwd=folder)
    assert result.returncode == 0, result.stderr
    statuses = result.stdout.split()
    assert api.status()["accepted"] == statuses.count("204")
    return statuses


def find(program: str) -> str:
    found = shutil.which(program)
    assert found is not None, f"{program} is missing; `make doctor` says how to get it"
    return found


@pytest.mark.parametrize("options", CURL_OPTIONS.values(), ids=CURL_OPTIONS)
def test_curl(api: Api, folder: Path, options: list[str]) -> None:
    url = f"{api.url}/analytics"
    assert send_hits(api, [find("curl"), *CURL[1:], *options, url, "-o", os.devnull], folder) == ["204"] * 2


def test_the_http_client_of_the_jdk_offers_h2c_and_has_its_hits_counted(api: Api, folder: Path) -> None:
    java = find_java(JavaNeed(11, frozenset({"java.net.http", "jdk.compiler"})), None)
    assert java is not None, "no Java with java.net.http and jdk.compiler; `make doctor` says how to get one"
    assert send_hits(api, [java.home / "bin" / "java", CLIENTS / "Hits.java"], folder) == ["204"] * 10


def test_net_http_of_go(api: Api, folder: Path) -> None:
    assert send_hits(api, [find("go"), "run", CLIENTS / "hits.go"], folder) == ["204"] * 5


@pytest.mark.parametrize(("script", "hits"), [("hits_aiohttp.py", 5), ("hits_httpx.py", 4)])
def test_clients_in_python(api: Api, folder: Path, script: str, hits: int) -> None:
    assert send_hits(api, [sys.executable, CLIENTS / script], folder) == ["204"] * hits


@pytest.mark.parametrize("node", [found] if (found := shutil.which("node")) else [])
def test_fetch_of_node(api: Api, folder: Path, node: str) -> None:
    assert send_hits(api, [node, CLIENTS / "hits.mjs"], folder) == ["204"] * 4
