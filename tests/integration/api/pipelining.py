"""What one connection that pipelines without end costs an API, in memory and in the time of everybody else.

    python -m tests.integration.api.pipelining --seconds 60

starts a real Redis and a real API for it.
"""

from __future__ import annotations

import argparse
import http.client
import select
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from hitcounter_devstack import RedisServer

from tests.chaos.memory import read_resident_bytes
from tests.support.stack import Api, Stack

KINDS: Final[Mapping[str, bytes]] = {
    "reads of nothing": b"GET /x HTTP/1.1\r\nhost:\r\n\r\n",
    "hits": b'POST /analytics HTTP/1.1\r\nhost:\r\ncontent-length: 10\r\n\r\n{"id":"a"}',
    "bad hits": b"POST /analytics HTTP/1.1\r\nhost:\r\ncontent-length: 2\r\n\r\n{}",
}
_MIB: Final = 1024 * 1024


@dataclass(frozen=True)
class Cost:
    """What it cost."""

    grown_mib: float
    """How much more memory the API had at the most."""
    median_ms: float
    """Of the answers to another client's hits."""
    median_before_ms: float
    """The same while nobody pipelined: how busy the machine is."""
    hits: int
    sent_mib: float


def measure(api: Api, request: bytes, seconds: float) -> Cost:
    """Pipeline the request for so long, as fast as the API takes it, while another client tracks hits."""
    with _connect(api) as flood, _Client(api) as client:
        before_ms = statistics.median(client.track_for(1.0)[0]) * 1000
        before = memory_of(api)
        end = threading.Event()
        sent: list[int] = []
        pipelining = threading.Thread(target=lambda: sent.append(_pipeline(flood, request * 2000, end)))
        pipelining.start()
        try:
            waits, most = client.track_for(seconds)
        finally:
            end.set()
            pipelining.join()
    return Cost((most - before) / _MIB, statistics.median(waits) * 1000, before_ms, len(waits), sent[0] / _MIB)


def memory_of(api: Api) -> int:
    """Return the resident memory of the API in bytes."""
    return read_resident_bytes(api.service.pid)


def _connect(api: Api) -> socket.socket:
    address = urlsplit(api.url)
    assert address.hostname is not None
    return socket.create_connection((address.hostname, address.port or 80), timeout=30)


def _pipeline(connection: socket.socket, requests: bytes, end: threading.Event) -> int:
    """Send whole requests again and again, and read what comes; return how many bytes were sent."""
    connection.setblocking(False)
    sent = 0
    while not end.is_set():
        readable, writable, _ = select.select([connection], [connection], [], 0.1)
        if readable and not connection.recv(1024 * 1024):
            raise ConnectionError("the API closed the connection")
        if writable:
            sent += connection.send(memoryview(requests)[sent % len(requests) :])
    return sent


class _Client(http.client.HTTPConnection):
    """Another client, on a connection of its own."""

    def __init__(self, api: Api) -> None:
        super().__init__(urlsplit(api.url).netloc, timeout=30)
        self._api = api

    def __enter__(self) -> _Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def track_for(self, seconds: float) -> tuple[list[float], int]:
        """Track a hit every few milliseconds; return how long each took, and the most memory that was seen."""
        waits: list[float] = []
        most = 0
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            started = time.monotonic()
            self.request("POST", "/analytics", b'{"id":"other"}')
            answer = self.getresponse()
            body = answer.read()
            if answer.status != 204:
                raise RuntimeError(f"another client's hit was answered with {answer.status}: {body!r}")
            waits.append(time.monotonic() - started)
            if len(waits) % 10 == 0:
                most = max(most, memory_of(self._api))
            time.sleep(0.005)
        return waits, max(most, memory_of(self._api))


def main() -> None:
    """Measure each kind of request, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.integration.api.pipelining", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory(prefix="hitcounter-") as folder:
        for kind, request in KINDS.items():
            own = Path(folder, kind.replace(" ", "-"))
            own.mkdir()
            with RedisServer(own / "redis") as redis, Stack(redis.url, "http://127.0.0.1:1", own) as stack:
                cost = measure(stack.api(), request, seconds)
            sys.stdout.write(
                f"{kind}, {seconds:g} s: +{cost.grown_mib:.1f} MiB; {cost.sent_mib:.1f} MiB sent; Track of others "
                f"(median of {cost.hits:,}): {cost.median_before_ms:.1f} ms before, {cost.median_ms:.1f} ms meanwhile\n"
            )


if __name__ == "__main__":
    main()
