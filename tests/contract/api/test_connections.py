"""What one connection may cost: heads have an end, and a client that falls silent is not waited for."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import orjson
import pytest
from hitcounter_api import protocol
from hitcounter_api.protocol import HEAD_MAX_BYTES
from hitcounter_api.settings import HttpSettings

from tests.contract.api.corpus import HIT, framed, in_chunks, request
from tests.contract.api.server import HOST, Server
from tests.contract.api.wire import Wire
from tests.support.stack import wait_until

BEGINNING = b"POST /analytics HTTP/1.1\r\nhost: x\r\n"


def send_until_refused(server: Server, beginning: bytes, piece: bytes, pieces: int = 1000) -> tuple[int, bytes]:
    """Send the piece again and again until the server hangs up; return how often, and what it said."""
    with socket.create_connection((HOST, server.port), timeout=10) as connection:
        connection.sendall(beginning)
        sent = 0
        try:
            for _ in range(pieces):
                connection.sendall(piece)
                sent += 1
                time.sleep(0.001)  # more than one read, however fast both sides are
            return sent, connection.recv(65536)
        except OSError:
            try:
                return sent, connection.recv(65536)
            except OSError:
                return sent, b""


@pytest.mark.parametrize(
    ("beginning", "piece"),
    [
        (BEGINNING + b"x: ", b"y" * 4096),
        (BEGINNING, b"x: y\r\n" * 500),
        (b"GET /", b"a" * 4096),
        (BEGINNING + b"transfer-encoding: chunked\r\n\r\n0\r\n", b"x: y\r\n" * 500),
    ],
    ids=["one long header", "many headers", "long path", "trailers"],
)
def test_a_head_without_end_is_refused(server: Server, beginning: bytes, piece: bytes) -> None:
    sent, _ = send_until_refused(server, beginning, piece)
    assert sent * len(piece) < HEAD_MAX_BYTES + 4 * 1024 * 1024  # what may lie in the kernel's buffers
    assert not server.stream.attempts


def test_a_head_that_is_too_large_is_answered_with_431(server: Server) -> None:
    with socket.create_connection((HOST, server.port), timeout=10) as connection:
        connection.sendall(BEGINNING + b"x: ")
        connection.sendall(b"y" * (HEAD_MAX_BYTES - len(BEGINNING) - 2))
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b"head-too-large" in answer


@pytest.mark.parametrize(
    "sent",
    [
        request(headers=b"x:\r\n" * 198),
        framed(b"transfer-encoding: chunked\r\n", in_chunks(trailers=b"x:\r\n" * 200)),
    ],
    ids=["headers", "trailers"],
)
def test_two_hundred_header_fields_are_served(server: Server, sent: bytes) -> None:
    with Wire(server.port) as wire:
        wire.send([sent])
        assert wire.read_statuses(1) == (204,)


@pytest.mark.parametrize("between", [b"", b"GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n"], ids=["next", "later"])
def test_what_cannot_be_read_behind_a_hit_is_not_taken_for_the_answer_to_the_hit(
    server: Server, between: bytes
) -> None:
    may_answer = threading.Event()
    server.stream.steps.append(asyncio.to_thread(may_answer.wait))  # type: ignore[arg-type]
    answer = server.send_raw(BEGINNING + b"content-length: 10\r\n\r\n" + b'{"id":"a"}' + between + b"no http\r\n\r\n")
    may_answer.set()
    assert answer == b"", "its outcome is unknown, and the client knows that"
    wait_until(lambda: server.stream.accepted_ids, lambda ids: ids == [["a"]])


@pytest.mark.parametrize("chunk", [b"no length\r\n", b"1\r\nxx"])
def test_a_body_that_cannot_be_read_is_answered(server: Server, chunk: bytes) -> None:
    answer = server.send_raw(BEGINNING + b"transfer-encoding: chunked\r\n\r\n" + chunk)
    assert answer.startswith(b"HTTP/1.1 400 ")


def test_a_head_in_many_pieces_is_read(server: Server) -> None:
    request = BEGINNING + b"content-length: 10\r\nconnection: close\r\n\r\n" + b'{"id":"a"}'
    with socket.create_connection((HOST, server.port), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(request), 7):
            connection.sendall(request[start : start + 7])
        assert connection.recv(65536).startswith(b"HTTP/1.1 204 ")


def test_large_heads_one_after_the_other_are_no_large_head(server: Server) -> None:
    header = b"x: " + b"y" * (HEAD_MAX_BYTES // 3) + b"\r\n"
    request = BEGINNING + header + b"content-length: 10\r\n\r\n" + b'{"id":"a"}'
    with socket.create_connection((HOST, server.port), timeout=10) as connection:
        for _ in range(6):
            for start in range(0, len(request), 5000):
                connection.sendall(request[start : start + 5000])
            assert connection.recv(65536).startswith(b"HTTP/1.1 204 ")


def keep_idle_connections_shortly(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.ask("GET", "/nowhere")  # it is up, then
    assert server._server is not None
    monkeypatch.setattr(server._server.config, "timeout_keep_alive", 0.2)


@pytest.mark.parametrize("beginning", [b"", BEGINNING], ids=["at once", "within a head"])
def test_a_client_that_falls_silent_is_not_waited_for(
    server: Server, monkeypatch: pytest.MonkeyPatch, beginning: bytes
) -> None:
    keep_idle_connections_shortly(server, monkeypatch)
    with socket.create_connection((HOST, server.port), timeout=10) as connection:
        connection.sendall(beginning)
        assert connection.recv(1) == b""


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (BEGINNING + b"content-length: 99999999\r\n\r\n", b"413"),
        (b"GET /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n", b"404"),
    ],
    ids=["too large", "not found"],
)
def test_a_client_that_falls_silent_within_a_body_that_has_its_answer_is_not_waited_for(
    server: Server, monkeypatch: pytest.MonkeyPatch, head: bytes, status: bytes
) -> None:
    keep_idle_connections_shortly(server, monkeypatch)
    with socket.create_connection((HOST, server.port), timeout=10) as connection:
        connection.sendall(head)
        answer = b""
        while not answer.endswith(b"}"):  # its end comes by itself
            answer += connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 " + status)
        connection.sendall(b"part")
        while connection.recv(65536):
            pass


@pytest.mark.parametrize("first", [b"", b"GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n"], ids=["first", "later"])
def test_a_client_that_sends_its_head_byte_by_byte_is_not_waited_for(
    server: Server, monkeypatch: pytest.MonkeyPatch, first: bytes
) -> None:
    monkeypatch.setattr(protocol, "HEAD_MAX_SECONDS", 0.3)
    sent, _ = send_until_refused(server, first + BEGINNING, b"y", pieces=5000)
    assert sent < 5000


def test_a_client_that_does_not_read_its_answers_is_not_waited_for(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "ANSWER_MAX_SECONDS", 0.3)
    requests = build_request_with_large_answer("keep-alive") * 20  # the kernel itself holds an answer or two
    with connect_with_small_buffer(server) as connection, pytest.raises(ConnectionError):
        connection.sendall(requests)


def test_an_answer_that_fits_the_buffer_and_is_not_read_does_not_keep_its_connection_for_ever(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So little waits that the transport does not ask to pause, and it would wait without a limit before it closes."""
    keep_idle_connections_shortly(server, monkeypatch)
    monkeypatch.setattr(protocol, "ANSWER_MAX_SECONDS", 0.3)
    with connect_with_small_buffer(server) as client:
        (connection,) = wait_until(lambda: find_connections(server, client), bool)
        while connection.transport.get_write_buffer_size() == 0:
            client.sendall(request(b"", line=b"GET /openapi.json HTTP/1.1"))
            time.sleep(0.01)
        assert connection.transport.get_write_buffer_size() < 64 * 1024
        wait_until(lambda: find_connections(server, client), lambda found: not found, 10)


def find_connections(server: Server, client: socket.socket) -> list[protocol.ApiProtocol]:
    """Return what the server has of the connection of this client."""
    assert server._server is not None
    connections = cast(list[protocol.ApiProtocol], list(server._server.server_state.connections))
    return [each for each in connections if each.client == client.getsockname()]


@pytest.mark.parametrize("line", [b"POST /analytics", b"POST /analytics?x=y", b"POST /nowhere"])
def test_an_idle_connection_keeps_nothing_of_its_last_request(server: Server, line: bytes) -> None:
    marker = b"a-marker"
    with socket.create_connection((HOST, server.port), timeout=10) as client:
        body = orjson.dumps({"id": "a", "key": marker.decode()})
        client.sendall(request(body, headers=b"x: %b\r\n" % marker, line=line + b" HTTP/1.1"))
        assert client.recv(65536)
        server.ask("GET", "/nowhere")  # the request has ended, then
        (connection,) = find_connections(server, client)
        cycle = connection.cycle
        kept: list[object] = [connection.headers, connection._head, connection._body, connection.scope]
        kept += [getattr(cycle, "scope", None), getattr(cycle, "body", None), connection._running_cycle]
        assert marker not in repr(kept).encode()


def test_a_client_that_reads_its_answer_in_small_pieces_gets_all_of_it(server: Server) -> None:
    with connect_with_small_buffer(server) as connection:
        connection.sendall(build_request_with_large_answer("close"))
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert len(orjson.loads(answer.partition(b"\r\n\r\n")[2])["errors"]) == 10_000


@contextlib.contextmanager
def connect_with_small_buffer(server: Server) -> Iterator[socket.socket]:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(60)
        connection.connect((HOST, server.port))
        yield connection


def build_request_with_large_answer(afterwards: str) -> bytes:
    """Return a batch whose every hit is bad: its answer has some megabytes."""
    hits = b"\n".join([b'{"id":"","field":"%b"}' % (b"x" * 70)] * 10_000)
    head = (
        f"POST /analytics/batch HTTP/1.1\r\nhost: x\r\nconnection: {afterwards}\r\ncontent-length: {len(hits)}\r\n\r\n"
    )
    return head.encode() + hits


def test_connections_of_all_kinds_at_once_do_not_keep_a_good_one_from_its_answer(server: Server) -> None:
    beginnings = [
        b"",
        b"P",
        BEGINNING,
        BEGINNING + b"content-length: 9\r\n\r\n",
        BEGINNING + b"content-length: 9\r\n\r\n{",
    ]
    connections = [socket.create_connection((HOST, server.port)) for _ in range(100)]
    for connection, beginning in zip(connections, itertools.cycle(beginnings), strict=False):
        connection.sendall(beginning)
    assert server.track(b'{"id":"a"}').status == 204
    for connection in connections:
        connection.close()


def test_a_connection_on_which_nothing_comes_is_not_kept_as_long_as_an_idle_one(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_MAX_SECONDS", 0.3)
    with Wire(server.port) as silent, Wire(server.port) as idle:
        idle.send([request()])
        assert idle.read_statuses(1) == (204,)
        assert silent.read_answer() is None, "closed after 0.3 s"
        idle.send([request()])
        assert idle.read_statuses(1) == (204,), "the keep-alive timeout is 75 s"


@pytest.mark.parametrize(
    ("last", "between"),
    [
        (b"0\r\n\r\n", b""),
        (b"0\r\nx: y\r\n\r\n", b""),
        (b"0\r\n\r\n", b"P"),
    ],
    ids=["last chunk", "trailer", "last chunk and the next head's beginning"],
)
def test_a_last_chunk_in_a_packet_of_its_own_takes_no_time_from_the_next_head(
    server: Server, monkeypatch: pytest.MonkeyPatch, last: bytes, between: bytes
) -> None:
    monkeypatch.setattr(protocol, "HEAD_MAX_SECONDS", 0.5)
    chunked = framed(b"transfer-encoding: chunked\r\n", in_chunks().removesuffix(b"0\r\n\r\n"))
    with Wire(server.port) as wire:
        wire.send([chunked])
        server.ask("GET", "/nowhere")  # that has been read, then
        started = time.monotonic()
        wire.send([last + between])
        assert wire.read_statuses(1) == (204,)
        if not between:
            time.sleep(0.7)  # longer than a head may take
        for piece in (request()[len(between) : 20], request()[20:]):
            wire.send([piece])
            server.ask("GET", "/nowhere")
        assert not between or time.monotonic() - started < 0.5
        assert wire.read_statuses(1) == (204,)


def test_a_head_that_waits_behind_pipelined_requests_has_its_time_afterwards(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_MAX_SECONDS", 0.3)
    may_answer = threading.Event()
    server.stream.steps.append(asyncio.to_thread(may_answer.wait))  # type: ignore[arg-type]
    with Wire(server.port) as wire:
        wire.send([request() * 2 + request()[:20]])
        time.sleep(0.5)
        may_answer.set()
        assert wire.read_statuses(2) == (204, 204)
        wire.send([request()[20:30]])
        server.ask("GET", "/nowhere")
        wire.send([request()[30:]])
        assert wire.read_statuses(1) == (204,)


def test_while_pipelined_requests_wait_nothing_more_is_read_or_parsed(server: Server) -> None:
    may_answer = threading.Event()
    server.stream.steps.append(asyncio.to_thread(may_answer.wait))  # type: ignore[arg-type]
    shortest = b"GET / HTTP/1.1\r\nhost:\r\n\r\n"
    with socket.create_connection((HOST, server.port), timeout=10) as connection:
        connection.sendall(request())
        wait_until(lambda: server.stream.attempts, bool)
        connection.setblocking(False)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while sent < 64 * 1024 * 1024:
                sent += connection.send(shortest * 1000)
        (waiting,) = wait_until(lambda: find_pipelines(server), lambda found: len(found) == 1)
        server.ask("GET", "/nowhere")
        assert find_pipelines(server) == [waiting], "it does not grow"
        assert waiting.requests <= protocol.SLICE_BYTES / len(shortest) + 1
        assert waiting.unparsed_bytes <= 256 * 1024
    may_answer.set()
    wait_until(lambda: find_pipelines(server), lambda found: not found)
    assert protocol.ApiProtocol.unparsed_bytes == 0


@dataclass(frozen=True)
class Waiting:
    """What waits on a connection."""

    requests: int
    unparsed_bytes: int


def find_pipelines(server: Server) -> list[Waiting]:
    assert server._server is not None
    connections = cast(list[protocol.ApiProtocol], list(server._server.server_state.connections))
    return [Waiting(len(each.pipeline), len(each._unparsed)) for each in connections if each.pipeline]


def test_pipelines_that_wait_on_many_connections_have_a_limit_together(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "UNPARSED_MAX_BYTES", 40_000)
    may_answer = threading.Event()
    server.stream.steps.append(asyncio.to_thread(may_answer.wait))  # type: ignore[arg-type]
    with Wire(server.port) as first, Wire(server.port) as second:
        first.send([request() * 500])
        wait_until(lambda: protocol.ApiProtocol.unparsed_bytes, lambda found: found > 20_000)
        second.send([request() * 500])
        assert second.read_answer() is None
        may_answer.set()
        assert first.read_statuses(500) == (204,) * 500
    assert protocol.ApiProtocol.unparsed_bytes == 0


def test_a_client_that_does_not_pipeline_is_not_closed_for_the_pipelines_of_others(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "UNPARSED_MAX_BYTES", 40_000)
    may_answer = threading.Event()
    server.stream.steps.append(asyncio.to_thread(may_answer.wait))  # type: ignore[arg-type]
    with Wire(server.port) as pipelining, Wire(server.port) as other:
        pipelining.send([request() * 500])
        wait_until(lambda: protocol.ApiProtocol.unparsed_bytes, lambda found: found > 20_000)
        other.send([request(b"x" * 60_000, line=b"POST /nowhere HTTP/1.1")])
        assert other.read_statuses(1) == (404,)
        may_answer.set()
        assert pipelining.read_statuses(500) == (204,) * 500


def test_one_connection_too_many_is_answered_with_503_and_closed() -> None:
    with Server(settings=HttpSettings(max_connections=10)) as server:
        server.ask("GET", "/nowhere")
        wait_until(lambda: server.read_metric("hitcounter_open_connections"), lambda found: found == 0)
        with contextlib.ExitStack() as stack:
            wires = [stack.enter_context(Wire(server.port)) for _ in range(10)]
            wait_until(lambda: server.read_metric("hitcounter_open_connections"), lambda found: found == 10)
            with Wire(server.port) as one_too_many:
                answer = one_too_many.read_answer()
                assert answer is not None
                assert answer.status == 503
                assert b"\r\nretry-after: 1\r\n" in answer.head
                assert orjson.loads(answer.body)["type"] == "urn:hitcounter:problem:too-many-connections"
                assert orjson.loads(answer.body)["outcome"] == "refused"
                assert one_too_many.read_answer() is None
            for wire in wires:
                wire.send([request()])
                assert wire.read_statuses(1) == (204,)
        assert server.read_metric("hitcounter_refused_connections_total") == 1
        wait_until(lambda: server.read_metric("hitcounter_open_connections"), lambda found: found == 0)
        assert server.track(HIT).status == 204


@pytest.mark.parametrize(
    ("sent", "kind", "says"),
    [
        (request(host=b""), "malformed-request", b"0 Host headers"),
        (framed(b"content-length: +10\r\n", HIT), "malformed-request", b"Invalid character in Content-Length"),
        (request(line=b"POST /\xc3\xa9 HTTP/1.1"), "malformed-request", b"must be percent-encoded"),
        (framed(b"transfer-encoding: gzip, chunked\r\n", in_chunks()), "not-implemented", b"chunked"),
        (request(headers=b"x: " + b"y" * 2 * HEAD_MAX_BYTES + b"\r\n"), "head-too-large", b"65,536"),
        (request(headers=b"x:\r\n" * 199), "head-too-large", b"200 header fields"),
        (BEGINNING + b"x:\r\n" * 1000, "head-too-large", b"200 header fields"),
        (
            framed(b"transfer-encoding: chunked\r\n", in_chunks(trailers=b"x:\r\n" * 201)),
            "head-too-large",
            b"200 header fields",
        ),
        (
            framed(b"transfer-encoding: chunked\r\n", in_chunks(trailers=b"x:\r\n" * 1000)),
            "head-too-large",
            b"200 header fields",
        ),
    ],
)
def test_what_is_refused_names_its_own_cause_and_is_counted(
    server: Server, sent: bytes, kind: str, says: bytes
) -> None:
    def count() -> float:
        return server.read_metric("hitcounter_invalid_requests_total", problem=kind, field="")

    counted = count()
    with Wire(server.port) as wire:
        wire.send([sent])
        answer = wire.read_answer()
    assert answer is not None
    assert says in answer.body
    assert (b"percent-encoded" in answer.body) == (b"percent-encoded" in says)
    assert count() == counted + 1
