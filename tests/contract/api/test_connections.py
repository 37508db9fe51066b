"""What one connection may cost: heads have an end, and a client that falls silent is not waited for."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Iterator

import orjson
import pytest
from hitcounter_api import protocol
from hitcounter_api.protocol import HEAD_MAX_BYTES

from tests.contract.api.server import HOST, Server
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
