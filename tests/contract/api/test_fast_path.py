"""The fast path and the ASGI path to the hot path give the same answers, byte for byte.

A request that comes whole takes the fast path; the same request in two pieces takes the ASGI path (protocol.py).
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hitcounter_devstack import RedisServer

from tests.support.stack import Api, Stack, wait_until

_BODIES = {
    "a hit": b'{"id": "1"}',
    "every field": b'{"id": "1", "weight": 3, "key": "018f0000-0000-7000-8000-000000000000"}',
    "not json": b"{",
    "empty": b"",
    "no id": b"{}",
    "unknown field": b'{"id": "1", "ID": "2"}',
    "id too long": b'{"id": "%b"}' % (b"x" * 513),
    "not utf-8": b'{"id": "\xff"}',
    "an array": b"[1]",
    "deeply nested": b"[" * 5000,
    "too large": b'{"id": "%b"}' % (b"x" * 20_000),
}
_HEADERS = {
    "plain": b"",
    "close": b"connection: close\r\n",
    "compressed": b"content-encoding: gzip\r\n",
    "key twice": b"idempotency-key: a\r\nidempotency-key: b\r\n",
    "key in the header": b"idempotency-key: 018f0000-0000-7000-8000-000000000000\r\n",
}


@pytest.fixture(scope="module")
def api(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    folder: Path = tmp_path_factory.mktemp("two-ways")
    with Stack(redis_server.url, "http://127.0.0.1:1", folder) as stack:
        yield stack.api()


@pytest.mark.parametrize("headers", _HEADERS.values(), ids=_HEADERS)
@pytest.mark.parametrize("body", _BODIES.values(), ids=_BODIES)
def test_both_ways_answer_alike(api: Api, headers: bytes, body: bytes) -> None:
    request = _request(body, headers)
    whole, in_pieces = _exchange(api, [request]), _exchange(api, [request[:-1] or request, request[-1:]])
    assert without_date(whole) == without_date(in_pieces)
    assert whole.startswith(b"HTTP/1.1 ")
    assert (b"connection: close" in whole) == (b"connection: close" in headers)


def test_requests_in_one_packet_are_answered_in_their_order(api: Api) -> None:
    accepted = api.status()["accepted"]
    answers = _exchange(api, [_request(b'{"id": "1"}') + _request(b"{}") + _request(b'{"id": "1"}')], answers=3)
    assert re.findall(rb"HTTP/1.1 (\d+) ", answers) == [b"204", b"422", b"204"]
    assert api.status()["accepted"] == accepted + 2


def test_a_connection_serves_both_ways_in_turn(api: Api) -> None:
    accepted = api.status()["accepted"]
    with _connect(api) as connection:
        for number in range(20):
            request = _request(b'{"id": "turn"}')
            pieces = [request] if number % 2 else [request[:30], request[30:]]
            for piece in pieces:
                connection.sendall(piece)
            assert _receive(connection, 1).startswith(b"HTTP/1.1 204 ")
    assert api.status()["accepted"] == accepted + 20


def test_a_client_that_asks_before_it_sends_is_told_to_go_on(api: Api) -> None:
    body = b'{"id": "1"}'
    with _connect(api) as connection:
        connection.sendall(_request(body, b"expect: 100-continue\r\n").removesuffix(body))
        assert _receive(connection, 1).startswith(b"HTTP/1.1 100 ")
        connection.sendall(body)
        assert _receive(connection, 1).startswith(b"HTTP/1.1 204 ")


def test_a_body_in_chunks_is_a_hit(api: Api) -> None:
    head = b"POST /analytics HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    for request in (head + b'4\r\n{"id\r\n7\r\n": "1"}\r\n0\r\n\r\n', head + b'b\r\n{"id": "1"}\r\n0\r\n\r\n'):
        assert _exchange(api, [request]).startswith(b"HTTP/1.1 204 ")


def test_a_client_that_closes_its_side_after_its_request_still_has_the_answer(api: Api) -> None:
    request = _request(b'{"id": "half"}')
    for pieces in ([request], [request[:-1], request[-1:]]):
        with _connect(api) as connection:
            _send(api, connection, pieces)
            connection.shutdown(socket.SHUT_WR)
            assert _receive(connection, 1).startswith(b"HTTP/1.1 204 ")
            assert connection.recv(1) == b"", "then our side is closed, too"


def test_a_client_that_hangs_up_within_its_request_counts_nothing(api: Api) -> None:
    accepted = api.status()["accepted"]
    for cut in (10, 60, -1):
        with _connect(api) as connection:
            connection.sendall(_request(b'{"id": "gone"}')[:cut])
    assert _exchange(api, [_request(b'{"id": "1"}')]).startswith(b"HTTP/1.1 204 ")
    assert wait_until(api.status, lambda status: status["accepted"] > accepted)["accepted"] == accepted + 1


def without_date(answer: bytes) -> bytes:
    """Return the answer as it is at any time: the two of a pair may come in different seconds."""
    found, times = re.subn(rb"\r\ndate: [^\r]+", b"", answer)
    assert times == 1
    return found


def _request(body: bytes, headers: bytes = b"") -> bytes:
    return b"POST /analytics HTTP/1.1\r\nhost: x\r\n%bcontent-length: %d\r\n\r\n%b" % (headers, len(body), body)


def _connect(api: Api) -> socket.socket:
    host, port = api.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=5)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _exchange(api: Api, pieces: list[bytes], answers: int = 1) -> bytes:
    """Send the pieces, each in a packet of its own, and return the answers."""
    with _connect(api) as connection:
        _send(api, connection, pieces)
        return _receive(connection, answers)


def _send(api: Api, connection: socket.socket, pieces: list[bytes]) -> None:
    for number, piece in enumerate(pieces):
        if number:  # let the server read what came before: it answers a probe on another connection meanwhile
            api.status()
        connection.sendall(piece)


def _receive(connection: socket.socket, answers: int) -> bytes:
    """Read until so many whole answers are there."""
    received = b""
    while _count_answers(received) < answers:
        chunk = connection.recv(65536)
        if not chunk:
            break
        received += chunk
    return received


def _count_answers(received: bytes) -> int:
    count = 0
    while b"\r\n\r\n" in received:
        head, _, received = received.partition(b"\r\n\r\n")
        lengths = [
            int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
        ]
        length = lengths[0] if lengths else 0
        if len(received) < length:
            return count
        received = received[length:]
        count += 1
    return count
