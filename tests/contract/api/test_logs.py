"""What the log tells of requests: whose line it is, and no more lines than needed."""

from __future__ import annotations

import asyncio
import gc
import io
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
import structlog
from hitcounter.errors import IndexUnavailable
from hitcounter.logs import configure_logging
from hitcounter.settings import LogSettings
from hitcounter_api.protocol import ApiProtocol

from tests.contract.api.corpus import request
from tests.contract.api.server import Server
from tests.contract.api.wire import Wire
from tests.support.stack import wait_until

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Log:
    """What the process wrote to its log."""

    def __init__(self) -> None:
        self._text = io.StringIO()
        configure_logging(LogSettings(format="json"), "api")
        (self.handler,) = logging.root.handlers
        assert isinstance(self.handler, logging.StreamHandler)
        self.handler.setStream(self._text)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self._text.getvalue().splitlines()]

    def wait_for_line(self) -> dict[str, Any]:
        """Return the only line, which may come a moment after the answer."""
        (line,) = wait_until(lambda: self.lines, bool, 10)
        return line


@pytest.fixture
def log() -> Iterator[Log]:
    level = logging.root.level
    log = Log()
    yield log
    logging.root.removeHandler(log.handler)
    logging.root.setLevel(level)
    structlog.reset_defaults()


async def fail() -> None:
    raise RuntimeError("a bug")


def test_a_fault_of_ours_is_one_line_with_the_traceparent_of_its_request(server: Server, log: Log) -> None:
    server.reader.gate = fail
    assert server.ask("GET", "/analytics/a", headers={"traceparent": TRACEPARENT}).status == 500
    line = log.wait_for_line()
    assert line["traceparent"] == TRACEPARENT
    assert line["level"] == "error"
    assert "RuntimeError: a bug" in line["exception"]


def test_a_request_without_a_traceparent_gets_one_in_its_lines(server: Server, log: Log) -> None:
    server.reader.trouble = IndexUnavailable("Elasticsearch does not answer")
    assert server.ask("GET", "/analytics/never-read", headers={"traceparent": "00-nonsense"}).status == 503
    line = log.wait_for_line()
    assert line["event"] == "counts are not available"
    assert len(line["traceparent"]) == len(TRACEPARENT)


def test_reads_that_fail_again_and_again_are_one_line(server: Server, log: Log) -> None:
    server.reader.trouble = IndexUnavailable("Elasticsearch does not answer")
    for _ in range(20):
        assert server.ask("GET", "/analytics/never-read").status == 503
    assert len(log.lines) == 1


def test_hits_leave_no_line_and_a_batch_that_is_given_up_leaves_one_that_is_no_single_requests(
    server: Server, log: Log
) -> None:
    for body in (b'{"id": "a"}', b"nonsense", b'{"id": ""}'):
        server.track(body, {"traceparent": TRACEPARENT})
    assert log.lines == []
    server.stream.trouble = RuntimeError("a bug")  # type: ignore[assignment]  # of no kind that is expected
    assert server.track_batch(b'[{"id": "a"}]', {"traceparent": TRACEPARENT}).status == 503
    lines = log.lines
    assert [line["event"] for line in lines] == ["a batch of hits failed", "hits were not acknowledged"]
    assert [line["hits"] for line in lines] == [1, 1]
    assert not [line for line in lines if "traceparent" in line]


@pytest.mark.parametrize(
    "first", [request(), request(b"", line=b"GET /analytics/slow HTTP/1.1")], ids=["fast path", "ASGI path"]
)
def test_a_pipeline_whose_connection_is_closed_before_its_first_answer_leaves_no_line(
    server: Server, log: Log, first: bytes
) -> None:
    may_answer = threading.Event()
    if first.startswith(b"POST"):
        server.stream.steps.append(asyncio.to_thread(may_answer.wait))  # type: ignore[arg-type]
    server.reader.gate = lambda: asyncio.to_thread(may_answer.wait)  # type: ignore[arg-type]
    with Wire(server.port) as wire:
        wire.send([first + request(b"", line=b"GET /nowhere HTTP/1.1") + b"no http\r\n\r\n"])
        assert wire.read_answer() is None
    assert server._server is not None
    may_answer.set()
    wait_until(lambda: server._server.server_state.tasks, lambda tasks: not tasks, 10)  # type: ignore[union-attr]
    time.sleep(0.1)  # a hit has no task
    gc.collect()  # asyncio logs an exception that nobody took when its task is freed
    assert log.lines == []


def fail_to_choose(_protocol: ApiProtocol) -> bool:
    raise KeyError("an attribute that uvicorn renamed")


def test_a_bug_in_the_protocol_is_a_500_and_a_traceback_and_not_the_clients_fault(
    server: Server, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ApiProtocol, "_may_take_fast_path", fail_to_choose)
    reply = server.track(b'{"id": "a"}')
    assert (reply.status, reply.kind) == (500, "internal-error")
    assert reply.headers["connection"] == "close"
    line = log.wait_for_line()
    assert line["level"] == "error"
    assert "KeyError: 'an attribute that uvicorn renamed'" in line["exception"]
    assert "fail_to_choose" in line["exception"], "it says where"
    assert server.read_metric("hitcounter_internal_errors_total") >= 1
    assert not server.stream.attempts
