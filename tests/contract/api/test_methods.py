"""What HTTP expects of any server: HEAD, OPTIONS, Allow, a liveness path, and a word about compressed bodies."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

import pytest
from hitcounter.errors import StreamUnavailable

from tests.contract.api.server import Server


@pytest.fixture(scope="module")
def server_with_page() -> Iterator[Server]:
    with Server(has_page=True) as server:
        yield server


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/analytics/a",
        "/analytics/a/b",
        "/analytics/%zz",
        "/history/a",
        "/history/a?step=day",
        "/status",
        "/livez",
        "/docs",
        "/openapi.json",
        "/nothing",
    ],
)
def test_head_answers_as_get_does_without_the_body(server_with_page: Server, path: str) -> None:
    get = server_with_page.ask("GET", path)
    head = server_with_page.ask("HEAD", path)
    assert get.body
    assert (head.status, head.headers, head.body) == (get.status, get.headers, b"")


def test_head_leaves_the_connection_as_it_should(server: Server) -> None:
    head = b"HEAD /status HTTP/1.1\r\nhost: x\r\n\r\n"
    last = b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    answers = server.send_raw(head + last)
    assert answers.count(b"HTTP/1.1 200 OK\r\n") == 2
    assert answers.endswith(b"alive\n")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/analytics", "OPTIONS, POST"),
        ("/analytics/batch", "GET, HEAD, OPTIONS, POST"),
        ("/analytics/a", "GET, HEAD, OPTIONS"),
        ("/history/a", "GET, HEAD, OPTIONS"),
        ("/status", "GET, HEAD, OPTIONS"),
        ("/livez", "GET, HEAD, OPTIONS"),
        ("/docs", "GET, HEAD, OPTIONS"),
        ("*", "GET, HEAD, OPTIONS, POST"),
    ],
)
def test_options_tells_what_is_allowed(server: Server, path: str, allowed: str) -> None:
    reply = server.ask("OPTIONS", path)
    assert (reply.status, reply.headers["allow"], reply.body) == (204, allowed, b"")
    assert reply.headers.keys() == {"allow", "date"}


def test_options_of_what_is_not_there_gets_404(server: Server) -> None:
    assert server.ask("OPTIONS", "/nothing").kind == "not-found"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/analytics", "OPTIONS, POST"),
        ("GET", "/analytics", "OPTIONS, POST"),
        ("DELETE", "/analytics/a", "GET, HEAD, OPTIONS"),
        ("POST", "/analytics/", "GET, HEAD, OPTIONS"),
        ("PATCH", "/analytics/batch", "GET, HEAD, OPTIONS, POST"),
        ("TRACE", "/status", "GET, HEAD, OPTIONS"),
        ("POST", "/livez", "GET, HEAD, OPTIONS"),
        ("POST", "/openapi.json", "GET, HEAD, OPTIONS"),
    ],
)
def test_a_wrong_method_is_a_405_that_names_the_right_ones(
    server: Server, method: str, path: str, allowed: str
) -> None:
    reply = server.ask(method, path)
    assert (reply.status, reply.kind, reply.headers["allow"]) == (405, "method-not-allowed", allowed)


def test_the_api_is_alive_whatever_its_stores_are(server: Server) -> None:
    server.stream.trouble = StreamUnavailable("Redis does not answer")
    reply = server.ask("GET", "/livez")
    assert (reply.status, reply.body, reply.headers["cache-control"]) == (200, b"alive\n", "no-store")


@pytest.mark.parametrize("path", ["/analytics", "/analytics/batch"])
@pytest.mark.parametrize("encoding", ["gzip", "br", "gzip, identity", "GZIP"])
@pytest.mark.parametrize("in_pieces", [False, True], ids=["whole", "in pieces"])
def test_a_compressed_body_gets_415_that_says_what_is_taken(
    server: Server, path: str, encoding: str, in_pieces: bool
) -> None:
    body = gzip.compress(b'{"id":"a"}')
    headers = {"Content-Encoding": encoding} | ({"Expect": "100-continue"} if in_pieces else {})
    reply = server.ask("POST", path, body, headers)
    assert (reply.status, reply.kind, reply.headers["accept-encoding"]) == (415, "content-encoding", "identity")
    assert (reply.json["field"], reply.json["value"], reply.json["limit"]) == ("Content-Encoding", encoding, "identity")
    assert not server.stream.attempts


@pytest.mark.parametrize("encoding", ["identity", "Identity", ""])
def test_a_body_that_says_that_it_is_not_compressed_is_taken(server: Server, encoding: str) -> None:
    assert server.track(b'{"id":"a"}', {"Content-Encoding": encoding}).status == 204
    assert server.track_batch(b'{"id":"a"}', {"Content-Encoding": encoding}).status == 204
