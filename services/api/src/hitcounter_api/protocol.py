"""uvicorn's HTTP/1.1 protocol, with a fast path for the one request that nearly all are.

A `POST /analytics` that arrives complete in one read takes the *fast path*: it goes to the hot path directly, and its
response is written as soon as its batch is in Redis. It needs no ASGI scope, task or message, which would cost more
than everything else that a hit needs (docs/decisions/0010). Every other request (a body in pieces, a pipelined request,
Expect, HTTP/1.0, a query) takes the *ASGI path*, uvicorn's own, to the same hot path as an ASGI application. Both paths
give the same responses; the contract tests send every request over both.

This module decides what uvicorn leaves open (docs/decisions/0022):

- An offered upgrade is ignored, and the request is served with its body.
- While pipelined requests wait, nothing more is read or parsed, so that one connection cannot fill the memory.
- A head is limited in size and time (slowloris). A silent connection is closed after the keep-alive timeout. A client
  that does not read its responses loses its connection. The number of connections is limited.
- A request that is not valid HTTP/1.1 gets a problem, is counted, and its connection is closed. A bug in the API gives
  a 500, with a traceback in the log.

Section numbers are those of RFC 9110 (HTTP Semantics) and RFC 9112 (HTTP/1.1).
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, ClassVar, Final

import httptools
from hitcounter.errors import HitcounterError
from hitcounter.logs import get_logger
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from hitcounter_api.hot_path import PATH, HotPath
from hitcounter_api.problems import Kind, Problem, count_problem, problem_of
from hitcounter_api.requests import HIT_MAX_BYTES

HEAD_MAX_BYTES: Final = 64 * 1024
"""Maximum size of a head: neither the parser nor uvicorn has a limit."""
HEADERS_MAX: Final = 200
"""Maximum number of headers, and of trailers: 64 KB of the shortest ones would take 1.5 MB as Python objects."""
HEAD_MAX_SECONDS: Final = 10.0
"""Time limit for a head, from its first byte or, on a new connection, from the start of the connection. It is the same
as for a body (requests.py)."""
ANSWER_MAX_SECONDS: Final = 30.0
"""How long a response may wait for a client that does not read, after the buffers of the kernel are full: the errors of
a large batch are some megabytes."""
SLICE_BYTES: Final = 1024
"""How much is parsed at once. While pipelined requests wait, nothing more is parsed, and each iteration of the event
loop parses at most one slice with requests. A slice has at most 40 requests, with 2.3 KB of memory each. Nearly every
request fits into one slice."""
UNPARSED_MAX_BYTES: Final = 32 * 1024 * 1024
"""Maximum amount of data from pipelining clients that waits to be parsed, on all connections together. For one
connection it is at most one read, 256 KB."""
RETRY_AFTER_SECONDS: Final = 1

_URL: Final = PATH.encode()
_NOTEWORTHY: Final = frozenset((b"host", b"transfer-encoding", b"expect"))
_HOST: Final = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(:[0-9]*)?")

log = get_logger()


class ApiProtocol(HttpToolsProtocol):
    """One connection. Its application has the hot path as the attribute ``hot_path``."""

    unparsed_bytes: ClassVar = 0
    """Bytes that wait to be parsed, on all connections of this process."""

    flow: _PipelineFlowControl

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.hot_path: HotPath = self.app.hot_path  # see app.Api
        self._max_connections = self.limit_concurrency
        self.limit_concurrency = None  # uvicorn's own check also counts tasks, and does not count the fast path
        self._fast_cycle: _FastCycle | None = None
        """The request that is arriving, while it may take the fast path."""
        self._running_cycle: RequestResponseCycle | None = None
        """The request that the ASGI application is handling. `cycle` is the last one of the pipeline."""
        self._head: list[tuple[bytes, bytes]] = []
        """The headers of the request that is arriving. Meanwhile `headers` collects its trailers."""
        self._body = b""
        self._known_host = b""
        """The last valid Host: a client nearly always sends the same."""
        self._unparsed = b""
        """Data that was read and waits until the pipelined requests before it have their responses."""
        self._will_parse_on = False
        self._silent_since = 0.0
        """When the client last sent data or got a response."""
        self._head_bytes = 0
        """Bytes that have arrived of an incomplete head (or of incomplete trailers)."""
        self._head_deadline: float | None = None
        """When the head must be complete."""
        self._has_moved_on = False
        """The last slice contained the end of a head, a part of a body, or the end of a message."""
        self._unread_answer: asyncio.TimerHandle | None = None
        """The timer that closes the connection of a client that does not read its response."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Wait for a request, with a time limit; refuse the connection if there are too many."""
        super().connection_made(transport)
        self.flow = _PipelineFlowControl(transport)
        self.hot_path.metrics.open_connections.inc()
        if self._max_connections is not None and len(self.connections) > self._max_connections:
            self._refuse_connection(self._max_connections)
        else:
            self._silent_since = self.loop.time()
            self._begin_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timers, and drop what was not parsed."""
        self.hot_path.metrics.open_connections.dec()
        self._wait_for_reader(None)
        self._unset_keepalive_if_required()
        self._keep_unparsed(b"")
        self.pipeline.clear()  # nobody is left to answer
        if self._running_cycle is not None:  # uvicorn tells only the last request of the pipeline
            self._running_cycle.disconnected = True
            self._running_cycle.message_event.set()
            self._running_cycle = None
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Start the time limit for a client that does not read."""
        super().pause_writing()
        self._wait_for_reader(self.loop.call_later(ANSWER_MAX_SECONDS, self.transport.abort))

    def resume_writing(self) -> None:
        """Continue, because the client has read nearly everything."""
        super().resume_writing()
        self._wait_for_reader(None)

    def data_received(self, data: bytes) -> None:
        """Parse the data. A request that is not complete after it takes the ASGI path."""
        self._silent_since = self.loop.time()
        if len(data) > SLICE_BYTES:
            self._parse_in_slices(data)
        else:
            self._parse(data)
        if self._fast_cycle is not None:
            self._leave_fast_path()

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio allows it; uvicorn never keeps its side open
        """Still answer a client that closed its side after a complete request."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete or cycle.more_body:
            return False
        cycle.keep_alive = False
        return True

    def on_message_begin(self) -> None:
        """Start a request, without the ASGI scope, which only the ASGI path needs."""
        self._has_moved_on = False  # earlier data and its deadline belong to the previous request
        self._head_bytes = 0
        self._head_deadline = None
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store a header or a trailer."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Check the rules of HTTP, and choose the path.

        Raises:
            Problem: the request is refused and its connection closed. The parser stops at once.
        """
        self._has_moved_on = True
        if self.parser.should_upgrade():
            self._check_upgrade()
            return
        self._check_head()
        self._check_header_count()
        # Trailers must not be merged into the headers (RFC 9110, 6.5.1): they go to a list that is not read.
        self._head, self.headers = self.headers, []
        if self.url == _URL and self._may_take_fast_path():
            self._fast_cycle = _FastCycle(self)
            self._body = b""
        else:
            self._take_asgi_path()

    def on_body(self, body: bytes) -> None:
        """Store a part of the body."""
        self._has_moved_on = True
        if self._fast_cycle is None:
            super().on_body(body)
        else:
            self._body += body

    def on_message_complete(self) -> None:
        """Pass on a complete request."""
        self._has_moved_on = True  # the last chunk may arrive alone, and is not a part of the next head
        if self.headers:
            self._check_header_count()
        cycle = self._fast_cycle
        if cycle is not None:
            self._fast_cycle = None
            cycle.keep_alive = self.parser.should_keep_alive()  # only now: a trailer may be `Connection: close`
            self.cycle = cycle  # type: ignore[assignment]  # of the same shape, as far as this protocol looks at it
            head, body = self._head, self._body
            self._head = self.headers = []  # an idle connection keeps nothing of its last request
            self._body = self.url = b""
            self.hot_path.take(head, body, cycle.answer)
        elif not self.parser.should_upgrade():
            self.headers = []
            self.url = b""
            if not self.parser.should_keep_alive():
                self.cycle.keep_alive = False
                if self.cycle.response_complete:
                    self.transport.close()
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Start the next pipelined request, or wait for one. uvicorn's own method would always continue to read."""
        self.server_state.total_requests += 1
        if self._running_cycle is not None:
            self._running_cycle.scope = {}  # type: ignore[typeddict-item]  # an idle connection keeps no request
            self._running_cycle.body = bytearray()
            self._running_cycle = None
        if self.transport.is_closing():
            return
        self._silent_since = self.loop.time()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        if self.pipeline:
            return
        if self.flow.is_held:
            self._parse_on_soon()
        else:
            self.flow.resume_reading()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running_cycle = cycle
        super()._start_asgi_task(cycle, app)

    def _parse_in_slices(self, data: bytes) -> None:
        """Parse a large read up to the first slice that starts or completes a request, and keep the rest.

        The rest waits for the pipelined requests in that slice, or for the next iteration of the event loop: a read may
        contain thousands of invalid hits, and the fast path answers each of them at once.
        """
        view = memoryview(data)
        cycle = self.cycle
        for start in range(0, len(data), SLICE_BYTES):
            if self.cycle is not cycle:
                self._keep_unparsed(data[start:])
                self.flow.hold()
                if not self.pipeline:
                    self._parse_on_soon()
                return
            self._parse(view[start : start + SLICE_BYTES])
            if self.transport.is_closing():
                return
            if self._fast_cycle is not None and len(self._body) > HIT_MAX_BYTES:
                self._leave_fast_path()

    def _parse(self, data: bytes | memoryview) -> None:
        """Pass the next slice to the parser."""
        self._has_moved_on = False
        try:
            rest = self._feed(data)
            while rest is not None:
                rest = self._ignore_upgrade(rest)
        except httptools.HttpParserError as error:
            self._refuse(error)
            return
        if self._has_moved_on:
            self._head_bytes = 0
            self._head_deadline = None
        else:
            self._limit_head(len(data))

    def _feed(self, data: bytes | memoryview) -> memoryview | None:
        """Pass data to the parser; return the data after a head that offers an upgrade."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            return memoryview(data)[offer.args[0] :]
        return None

    def _ignore_upgrade(self, rest: memoryview) -> memoryview | None:
        """Serve a request that offers an upgrade as if it did not; return the data after the next such head.

        A server may ignore the offer, and must then serve the request with its body (RFC 9110, 7.8). The parser cannot
        do this: it treats all data after the head as another protocol, and would parse the body as the next request.
        So a new parser gets the same head without the offer, and then the rest of the slice.
        """
        head = self._render_head_without_upgrade()
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's __init__ does
        self.parser.feed_data(head)
        return self._feed(rest)

    def _render_head_without_upgrade(self) -> bytes:
        # With `Upgrade` gone, the parser does not mind that `Connection` still names it.
        lines = [b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade"]
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        return b"%b %b HTTP/%b\r\n%b\r\n" % (method, self.url, version, b"".join(lines))

    def _parse_on_soon(self) -> None:
        if not self._will_parse_on:
            self._will_parse_on = True
            self.loop.call_soon(self._parse_on)  # not while the hit of another client is being answered

    def _parse_on(self) -> None:
        """Continue when the last pipelined request has started or has its response."""
        self._will_parse_on = False
        if self.pipeline or not self.flow.is_held or self.transport.is_closing():
            return
        if self._head_deadline is not None:  # the client was not slow: we did not read
            self._begin_head()
        unparsed = self._unparsed
        self._keep_unparsed(b"")
        if unparsed:
            self.data_received(unparsed)
        if not self.pipeline and not self._unparsed:
            self.flow.release()

    def _keep_unparsed(self, data: bytes) -> None:
        ApiProtocol.unparsed_bytes += len(data) - len(self._unparsed)
        self._unparsed = data
        # Without requests that wait, it is parsed in the next iteration of the event loop.
        if data and self.pipeline and ApiProtocol.unparsed_bytes > UNPARSED_MAX_BYTES:
            self._keep_unparsed(b"")
            log.warning(
                "closed a connection: too much pipelined data waits to be parsed", limit_bytes=UNPARSED_MAX_BYTES
            )
            self.transport.close()

    def _check_upgrade(self) -> None:
        if self.parser.get_method() == b"CONNECT":  # which the parser treats as an upgrade as well
            raise Problem(Kind.MALFORMED_REQUEST, "CONNECT is for proxies, and this is an origin server")

    def _check_head(self) -> None:
        hosts = 0
        for name, value in self.headers:
            if name in _NOTEWORTHY:
                if name == b"host":
                    hosts += 1
                    if value != self._known_host:
                        self._check_host(value)
                elif name == b"expect":
                    self.expect_100_continue |= value.rstrip().lower() == b"100-continue"
                else:
                    self._check_coding(value)
        # A server must reject these (RFC 9112, 3.2): a proxy in front of it may have used another Host.
        if hosts != 1 and (hosts or self.parser.get_http_version() == "1.1"):
            raise Problem(Kind.MALFORMED_REQUEST, f"the request has {hosts} Host headers; it must have one")

    def _check_header_count(self) -> None:
        if len(self.headers) > HEADERS_MAX:
            raise _build_header_problem()

    def _check_host(self, value: bytes) -> None:
        if _HOST.fullmatch(value.rstrip(b" \t")) is None:
            raise Problem(
                Kind.MALFORMED_REQUEST, "the Host header is not a host name or address with or without a port"
            )
        self._known_host = value

    def _check_coding(self, value: bytes) -> None:
        # RFC 9112, 6.1: 501 for an unknown coding. The parser only checks that the last one is chunked, and would pass
        # on a gzipped body as it is.
        if value.rstrip(b" \t").lower() != b"chunked":
            raise Problem(
                Kind.NOT_IMPLEMENTED,
                "the only transfer coding that is understood is chunked",
                {"field": "Transfer-Encoding", "value": value[:100].decode("latin-1"), "limit": "chunked"},
            )
        if self.parser.get_http_version() != "1.1":
            # RFC 9112, 6.1: the framing is faulty, because an HTTP/1.0 proxy would not have understood it.
            raise Problem(Kind.MALFORMED_REQUEST, "Transfer-Encoding is only for HTTP/1.1")

    def _may_take_fast_path(self) -> bool:
        parser = self.parser
        return (
            parser.get_method() == b"POST"
            and (self.cycle is None or self.cycle.response_complete)
            and not self.flow.write_paused  # the client does not read; the ASGI path waits for it
            and not self.expect_100_continue
            and parser.get_http_version() == "1.1"
        )

    def _leave_fast_path(self) -> None:
        """Move a request to the ASGI path, because it is incomplete or larger than a hit may be."""
        self._fast_cycle = None
        if not self.transport.is_closing():
            self._take_asgi_path()
            super().on_body(self._body)
        self._body = b""

    def _take_asgi_path(self) -> None:
        version = self.parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise Problem(Kind.MALFORMED_REQUEST, f"HTTP/{version} is not supported; use HTTP/1.1")
        url = self._read_url()
        # An expectation in HTTP/1.0 must be ignored (RFC 9110, 10.1.1).
        expect_100_continue = self.expect_100_continue and version == "1.1"
        trailers = self.headers
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expect_100_continue
        self.headers += self._head  # the scope contains this list object
        super().on_headers_complete()
        self.headers, self._head = trailers, []
        self.scope = None  # type: ignore[assignment]  # the cycle has it
        if self.pipeline:
            self.flow.hold()

    def _read_url(self) -> bytes:
        """Return the target in origin-form. A server must accept the absolute-form, too (RFC 9112, 3.2.2)."""
        url = self.url
        if url.startswith(b"/") or url == b"*":
            return url
        try:
            parsed = httptools.parse_url(url)
        except httptools.HttpParserInvalidURLError as error:
            raise Problem(Kind.MALFORMED_REQUEST, "the target of the request is not a URL") from error
        query = b"" if parsed.query is None else b"?" + parsed.query
        return (parsed.path or b"/") + query

    def _limit_head(self, size_bytes: int) -> None:
        """Record a slice that contained only a part of a head (or of trailers); refuse a head that is too large."""
        if self._head_deadline is None:
            self._begin_head()
        self._head_bytes += size_bytes
        if len(self.headers or ()) > HEADERS_MAX and not self.transport.is_closing():
            self._hang_up(_build_header_problem())
        if self._head_bytes > HEAD_MAX_BYTES and not self.transport.is_closing():
            limit = {"limit": HEAD_MAX_BYTES}
            self._hang_up(Problem(Kind.HEAD_TOO_LARGE, f"the head has more than {HEAD_MAX_BYTES:,} bytes", limit))

    def _begin_head(self) -> None:
        self._head_deadline = self.loop.time() + HEAD_MAX_SECONDS
        self._look_again(min(HEAD_MAX_SECONDS, self.timeout_keep_alive))

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection after the keep-alive timeout, or if its head takes too long.

        It stays open while a request waits for its response, which has its own limit. One timer runs all the time and
        checks the elapsed time: setting and cancelling one per request, as uvicorn does, costs more than all HTTP
        checks.
        """
        wait_seconds = float(self.timeout_keep_alive)
        if self.transport.is_closing():
            wait_seconds = 0
        elif self.cycle is None or self.cycle.response_complete:
            deadline = self._silent_since + wait_seconds
            if self._head_deadline is not None:
                deadline = min(deadline, self._head_deadline)
            wait_seconds = deadline - self.loop.time()
        if wait_seconds > 0:
            self._look_again(wait_seconds)
        else:
            self.transport.close()
            # close() waits without a limit for a client that does not read the rest of its response.
            self.timeout_keep_alive_task = self.loop.call_later(ANSWER_MAX_SECONDS, self.transport.abort)

    def _look_again(self, wait_seconds: float) -> None:
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(wait_seconds, self.timeout_keep_alive_handler)

    def _wait_for_reader(self, timer: asyncio.TimerHandle | None) -> None:
        if self._unread_answer is not None:
            self._unread_answer.cancel()
        self._unread_answer = timer

    def _refuse_connection(self, limit: int) -> None:
        self.hot_path.metrics.refused_connections.inc()
        log.warning("connections are refused: too many are open", limit=limit)
        detail = f"this process has {limit:,} open connections, its limit; nothing was read from this one"
        headers = [("retry-after", str(RETRY_AFTER_SECONDS))]
        self._hang_up(Problem(Kind.TOO_MANY_CONNECTIONS, detail, {"outcome": "refused"}, headers=headers))

    def _refuse(self, error: httptools.HttpParserError) -> None:
        """Answer a request that the parser or one of our checks rejected, or that met a bug in the API."""
        cause = error.__context__ if isinstance(error, httptools.HttpParserCallbackError) else error
        match cause:
            case Problem():
                problem = cause
            case httptools.HttpParserInvalidURLError():
                detail = f"the target of the request is not a URL: {cause}. Bytes outside ASCII must be percent-encoded"
                problem = Problem(Kind.MALFORMED_REQUEST, detail)
            case httptools.HttpParserError():
                problem = Problem(Kind.MALFORMED_REQUEST, f"this cannot be read as HTTP/1.1: {cause}")
            case _:
                log.error("a request could not be read: a bug", exc_info=cause or error)
                problem = problem_of(error)
        self._hang_up(problem)

    def _hang_up(self, problem: Problem) -> None:
        """Send the problem and close. If a complete request waits, do not send it: its hit may be counted."""
        self._fast_cycle = None
        count_problem(self.hot_path.metrics, problem)
        cycle = self.cycle
        may_answer = cycle is None or cycle.response_complete or cycle.more_body
        if may_answer and not self.pipeline:
            self.transport.write(self.render_problem(problem, keep_alive=False))
        self.transport.close()

    def render_problem(self, problem: Problem, *, keep_alive: bool) -> bytes:
        """Return the complete response."""
        headers, body = problem.render()
        if not keep_alive:
            headers.append(("connection", "close"))
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
        always = b"".join([b"%b: %b\r\n" % header for header in self.server_state.default_headers])
        return STATUS_LINE[problem.kind.status] + always + lines.encode() + b"\r\n" + body


def _build_header_problem() -> Problem:
    detail = f"the request has more than {HEADERS_MAX} header fields"
    return Problem(Kind.HEAD_TOO_LARGE, detail, {"limit": HEADERS_MAX})


class _PipelineFlowControl(FlowControl):
    """Does not read while pipelined requests wait. uvicorn continues to read with each response."""

    is_held = False

    def hold(self) -> None:
        """Stop reading until `release`."""
        self.is_held = True
        self.pause_reading()

    def release(self) -> None:
        """Continue reading."""
        self.is_held = False
        self.resume_reading()

    def resume_reading(self) -> None:
        """Continue reading, unless pipelined requests wait."""
        if not self.is_held:
            super().resume_reading()


class _FastCycle:
    """One request on the fast path, with the attributes of uvicorn's cycles that the protocol uses."""

    __slots__ = ("_protocol", "disconnected", "keep_alive", "response_complete")
    more_body: Final = False
    message_event: ClassVar = asyncio.Event()
    """uvicorn sets it when the connection is lost; the fast path does not use it."""

    def __init__(self, protocol: ApiProtocol) -> None:
        self._protocol = protocol
        self.keep_alive = True
        self.disconnected = False
        self.response_complete = False

    def answer(self, error: HitcounterError | None) -> None:
        """Write the response: accepted, or the problem."""
        if error is None:
            self._write(_no_content.render(self._protocol.server_state.default_headers, keep_alive=self.keep_alive))
        else:
            self._write(self._protocol.render_problem(problem_of(error), keep_alive=self.keep_alive))

    def _write(self, answer: bytes) -> None:
        self.response_complete = True
        transport = self._protocol.transport
        if transport.is_closing():
            return
        transport.write(answer)
        if not self.keep_alive:
            transport.close()
        self._protocol.on_response_complete()


class _NoContent:
    """The 204 of a hit. It is rendered again only when its Date changes (RFC 9110, 6.6.1): once a second."""

    def __init__(self) -> None:
        self._headers: list[tuple[bytes, bytes]] | None = None
        self._keep_alive = self._close = b""

    def render(self, headers: list[tuple[bytes, bytes]], *, keep_alive: bool) -> bytes:
        """Return the complete response, with uvicorn's default headers, a new list of which is created each second."""
        if headers is not self._headers:
            head = STATUS_LINE[204] + b"".join([b"%b: %b\r\n" % header for header in headers])
            self._headers, self._keep_alive, self._close = headers, head + b"\r\n", head + b"connection: close\r\n\r\n"
        return self._keep_alive if keep_alive else self._close


_no_content: Final = _NoContent()
