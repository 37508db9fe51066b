"""uvicorn's HTTP protocol, with a short way for the one request that nearly all are.

A `POST /analytics` that arrives whole in one read is handed to the hot path as it stands, and its answer is written
as soon as its batch is in Redis. No ASGI scope, no task and no messages are made for it: they cost more than all else
that a hit needs (docs/decisions tells how much). Everything out of the ordinary (a body in pieces, a pipelined
request, Expect, HTTP/1.0, an upgrade, a query) goes the long way, uvicorn's own, to the same hot path as an ASGI
application. Both ways give the same answers; the contract tests send everything over both.

Two more differences: what is not HTTP gets a problem, too; and no client can keep its part in memory for as long as it
likes, as uvicorn would let it. A head has a limit in size and in time, a client that falls silent is not waited for,
and one that does not read its answers loses its connection.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from hitcounter_api.hot_path import PATH, HotPath
from hitcounter_api.intake import Refusal
from hitcounter_api.problems import MEDIA_TYPE, Kind, Problem, problem_of_refusal

HEAD_MAX_BYTES: Final = 64 * 1024
"""How much may arrive without any of it being a body: neither the parser nor uvicorn has a limit of its own."""
HEAD_MAX_SECONDS: Final = 10.0
"""How long a head may take that did not come whole: as long as a body (requests.py)."""
ANSWER_MAX_SECONDS: Final = 30.0
"""How long an answer may wait for a client that does not read it, beyond what the kernel takes off our hands: the
faults of a large batch are some megabytes."""
_URL: Final = PATH.encode()
_NO_CONTENT: Final = STATUS_LINE[204] + b"\r\n"
_NO_CONTENT_AND_CLOSE: Final = STATUS_LINE[204] + b"connection: close\r\n\r\n"


class ApiProtocol(HttpToolsProtocol):
    """One connection. The application it serves has the hot path as its attribute ``hot_path``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.hot_path: HotPath = self.app.hot_path  # see app.Api
        self._short: _ShortCycle | None = None
        """The request that is arriving, as long as it may go the short way."""
        self._body = b""
        self._head_bytes = 0
        """What has arrived of a head that is not complete."""
        self._head_deadline = 0.0
        self._unread: asyncio.TimerHandle | None = None
        """Gives up on a client that does not read its answer."""
        self._has_moved_on = False
        """The head is complete, or more of the body is there, since the last read began."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Wait for a request, but not for ever."""
        super().connection_made(transport)
        self._close_if_silent()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._wait_for_reader(None)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Give a client that does not read some time to do so."""
        super().pause_writing()
        self._wait_for_reader(self.loop.call_later(ANSWER_MAX_SECONDS, self.transport.abort))

    def resume_writing(self) -> None:
        """Go on: what was written has been read, or nearly."""
        super().resume_writing()
        self._wait_for_reader(None)

    def on_message_begin(self) -> None:
        """Begin a request, without the ASGI scope that only the long way needs."""
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_headers_complete(self) -> None:
        """Choose the way."""
        self._has_moved_on = True
        if self.url == _URL and self._is_ordinary():
            self._short = _ShortCycle(self, keep_alive=self.parser.should_keep_alive())
            self._body = b""
        else:
            self._take_long_way()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._has_moved_on = True
        if self._short is None:
            super().on_body(body)
        else:
            self._body += body

    def on_message_complete(self) -> None:
        """Hand over a request that has come whole."""
        if self._short is None:
            super().on_message_complete()
            return
        cycle, self._short = self._short, None
        self.cycle = cycle  # type: ignore[assignment]  # of the same shape, as far as this protocol looks at it
        self.hot_path.take(self.headers, self._body, cycle)

    def data_received(self, data: bytes) -> None:
        """Read; a request that has not come whole with it goes the long way from here."""
        self._has_moved_on = False
        super().data_received(data)
        if self._has_moved_on:
            self._head_bytes = 0
        else:
            self._bear_head(len(data))
        if self._short is not None:
            self._short = None
            if not self.transport.is_closing():
                self._take_long_way()
                super().on_body(self._body)
        self._close_if_silent()

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio allows it; uvicorn never keeps its side open
        """Let a client that has closed its side, having sent a whole request, still have the answer to it."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete or cycle.more_body:
            return False
        cycle.keep_alive = False
        return True

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that cannot be parsed, such as a path that is not ASCII, and hang up."""
        self._short = None
        self._hang_up(Problem(Kind.MALFORMED_REQUEST, f"{msg} Bytes outside of ASCII must be percent-encoded."))

    def _bear_head(self, size_bytes: int) -> None:
        """Take note of a read that brought only part of a head (or of trailers); too much of that is refused."""
        if self.transport.is_closing():
            return
        if not self._head_bytes:
            self._head_deadline = self.loop.time() + HEAD_MAX_SECONDS
        self._head_bytes += size_bytes
        if self._head_bytes > HEAD_MAX_BYTES:
            limit = {"limit": HEAD_MAX_BYTES}
            self._hang_up(Problem(Kind.HEAD_TOO_LARGE, f"the head has more than {HEAD_MAX_BYTES:,} bytes", limit))

    def _close_if_silent(self) -> None:
        """Close the connection if nothing more comes for as long as an idle one is kept, or a head takes too long.

        Not while a request waits for its answer: that has a limit of its own. What was read last may belong to one that
        has its answer already, such as the rest of a body that is too large.
        """
        is_answered = self.cycle is None or self.cycle.response_complete
        if is_answered and self.timeout_keep_alive_task is None and not self.transport.is_closing():
            wait_seconds = float(self.timeout_keep_alive)
            if self._head_bytes:
                wait_seconds = min(wait_seconds, self._head_deadline - self.loop.time())
            self.timeout_keep_alive_task = self.loop.call_later(wait_seconds, self.timeout_keep_alive_handler)

    def _wait_for_reader(self, timer: asyncio.TimerHandle | None) -> None:
        if self._unread is not None:
            self._unread.cancel()
        self._unread = timer

    def _hang_up(self, problem: Problem) -> None:
        """Close, and say why, but not where a whole request would take that for its answer: its hit may be counted."""
        cycle = self.cycle
        may_answer = cycle is None or cycle.response_complete or cycle.more_body
        if may_answer and not self.pipeline:
            self.transport.write(_render(problem, keep_alive=False))
        self.transport.close()

    def _is_ordinary(self) -> bool:
        parser = self.parser
        return (
            parser.get_method() == b"POST"
            and (self.cycle is None or self.cycle.response_complete)
            and not self.flow.write_paused  # its client does not read: the long way waits for that
            and not self.expect_100_continue
            and parser.get_http_version() == "1.1"
            and not parser.should_upgrade()
        )

    def _take_long_way(self) -> None:
        url, headers, expect_100_continue = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expect_100_continue
        self.headers += headers  # the scope holds this very list
        super().on_headers_complete()


class _ShortCycle:
    """One request on the short way, in the shape of uvicorn's cycles: the protocol asks whether it is complete."""

    __slots__ = ("_protocol", "disconnected", "keep_alive", "message_event", "response_complete")
    more_body: Final = False

    def __init__(self, protocol: ApiProtocol, *, keep_alive: bool) -> None:
        self._protocol = protocol
        self.keep_alive = keep_alive
        self.disconnected = False
        self.response_complete = False
        self.message_event = _NOBODY

    def answer(self, refusal: Refusal | None) -> None:
        """Write the answer: accepted, or why not."""
        if refusal is None:
            self._write(_NO_CONTENT if self.keep_alive else _NO_CONTENT_AND_CLOSE)
        else:
            self.answer_problem(problem_of_refusal(refusal))

    def answer_problem(self, problem: Problem) -> None:
        """Write what is wrong."""
        self._write(_render(problem, keep_alive=self.keep_alive))

    def _write(self, answer: bytes) -> None:
        self.response_complete = True
        if self.disconnected:
            return
        transport = self._protocol.transport
        transport.write(answer)
        if not self.keep_alive:
            transport.close()
        self._protocol.on_response_complete()


class _Nobody:
    """Stands where an ASGI application waits to hear that the client has gone; on the short way nobody waits."""

    def set(self) -> None:
        """Tell nobody."""


_NOBODY: Final = _Nobody()


def _render(problem: Problem, *, keep_alive: bool) -> bytes:
    body = problem.render()
    headers = [("content-type", MEDIA_TYPE), ("content-length", str(len(body))), *problem.headers]
    if not keep_alive:
        headers.append(("connection", "close"))
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
    return STATUS_LINE[problem.kind.status] + lines.encode() + b"\r\n" + body
