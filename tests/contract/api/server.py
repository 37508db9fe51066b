"""The API over real HTTP, with a fake stream and fake counts behind it, and a plain client for it.

python -m tests.contract.api.server > docs/openapi.json    writes the OpenAPI document anew
"""

from __future__ import annotations

import http.client
import socket
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import orjson
import uvloop
from hitcounter.entries import Durability
from hitcounter.health import EmbeddedServer, Readiness
from hitcounter.ledger import StreamStatus
from hitcounter.metrics import QueueMetrics
from hitcounter_api.__main__ import build_config
from hitcounter_api.access import Access
from hitcounter_api.app import create_app
from hitcounter_api.intake import Intake, Intakes
from hitcounter_api.queue_watch import QueueWatch
from hitcounter_api.reads import Reads
from hitcounter_api.settings import HttpSettings

from tests.unit.api.fakes import NOW_MS, PRODUCER, FakeReader, FakeStream, build_metrics

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Reply:
    """One HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def kind(self) -> str:
        """The last part of the problem's type."""
        assert self.headers["content-type"] == "application/problem+json"
        problem = self.json
        assert problem["status"] == self.status
        assert problem["title"]
        assert problem["detail"]
        return str(problem["type"]).removeprefix("urn:hitcounter:problem:")


class Server:
    """The API on a port and a thread of its own. Its clock stands still at NOW_MS."""

    def __init__(
        self, *, has_page: bool = False, settings: HttpSettings | None = None, access: Access | None = None
    ) -> None:
        self._has_page = has_page
        self._access = access
        self._settings = settings or HttpSettings()
        self.stream = FakeStream()
        self.reader = FakeReader()
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=lambda: uvloop.run(self._serve()), name="api")
        self._server: EmbeddedServer | None = None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.should_exit = True
        self._thread.join(10)

    def ask(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Reply:
        """Send one request on a connection of its own."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=10)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, found, answer.read())
        finally:
            connection.close()

    def show_queue(self, status: StreamStatus) -> None:
        """Have the API see the queue so, as its watch does each second."""
        self.stream.status_now = status
        assert self.ask("GET", "/status").status == 200

    def track(self, body: bytes, headers: Mapping[str, str] | None = None) -> Reply:
        """POST /analytics."""
        return self.ask("POST", "/analytics", body, headers)

    def track_batch(self, body: bytes, headers: Mapping[str, str] | None = None) -> Reply:
        """POST /analytics/batch."""
        return self.ask("POST", "/analytics/batch", body, headers)

    def send_raw(self, data: bytes, *, is_hanging_up: bool = False) -> bytes:
        """Send bytes as they are, and hang up or wait until the server does; return all that comes back."""
        with socket.create_connection((HOST, self.port), timeout=10) as connection:
            connection.sendall(data)
            if is_hanging_up:
                connection.shutdown(socket.SHUT_WR)
            pieces = []
            while piece := connection.recv(65536):
                pieces.append(piece)
        return b"".join(pieces)

    def read_metric(self, name: str, **labels: str) -> float:
        """Return the value of a metric; 0 where it has none yet."""
        return self.registry.get_sample_value(name, labels) or 0.0

    async def _serve(self) -> None:
        metrics, self.registry = build_metrics()
        intake = Intake(self.stream, metrics, producer=PRODUCER, limit=10_000, budget_seconds=0.3)
        disk_intake = Intake(
            self.stream, metrics, producer=PRODUCER, limit=10_000, budget_seconds=0.3, durability=Durability.DISK
        )
        watch = QueueWatch(self.stream, QueueMetrics(self.registry), Readiness())
        app = create_app(
            intakes=Intakes({Durability.MEMORY: intake, Durability.DISK: disk_intake}, Durability.MEMORY),
            reads=Reads(self.reader, watch, metrics, max_concurrent=4, max_wait_seconds=0.5, remembered_ids=10),
            watch=watch,
            metrics=metrics,
            has_page=self._has_page,
            clock_ms=lambda: NOW_MS,
            access=self._access,
        )
        self._server = EmbeddedServer(build_config(app, self._settings))
        await self._server.serve(sockets=[self._listener])
        await intake.drain()


def read_openapi(server: Server) -> str:
    """Return the OpenAPI document as it is committed."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    return orjson.dumps(server.ask("GET", "/openapi.json").json, option=options).decode()


if __name__ == "__main__":
    with Server() as server:
        sys.stdout.write(read_openapi(server))
