"""What is sent over one connection, byte by byte, and what has to come of it: answers, hits, and the connection's end.

A row is data: bytes in; the statuses of the answers, the ids that are accepted, and whether the connection stays open.
The sections are those of RFC 9110 (HTTP Semantics) and RFC 9112 (HTTP/1.1).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

HIT: Final = b'{"id":"a"}'


def request(
    body: bytes = HIT, headers: bytes = b"", *, line: bytes = b"POST /analytics HTTP/1.1", host: bytes = b"host: x\r\n"
) -> bytes:
    """Return a whole request with a Content-Length, unless there is no body."""
    length = b"content-length: %d\r\n" % len(body) if body else b""
    return line + b"\r\n" + host + headers + length + b"\r\n" + body


def framed(headers: bytes, body: bytes, *, line: bytes = b"POST /analytics HTTP/1.1") -> bytes:
    """Return a request whose framing is said by the headers alone."""
    return line + b"\r\nhost: x\r\n" + headers + b"\r\n" + body


def in_chunks(body: bytes = HIT, *, trailers: bytes = b"") -> bytes:
    """Return a body in two chunks."""
    half = len(body) // 2
    pieces = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (body[:half], body[half:]))
    return pieces + b"0\r\n" + trailers + b"\r\n"


@dataclass(frozen=True)
class Row:
    """One row of the corpus."""

    name: str
    sent: bytes
    answers: tuple[int, ...]
    """The statuses, those of 1xx included."""
    hits: tuple[str, ...] = ()
    stays_open: bool = False
    """The connection serves another request afterwards."""
    has_bodies: bool = True
    """The answers have the bodies that their heads announce: those to HEAD have none."""


_SMUGGLED: Final = request(b'{"id":"smuggled"}')
_CHUNKED: Final = b"transfer-encoding: chunked\r\n"
_H2C: Final = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"
_WEBSOCKET: Final = (
    b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: YQ==\r\n"
)
_GET: Final = b"GET /analytics/a HTTP/1.1"


def good(name: str, sent: bytes, *, answers: Iterable[int] = (204,), hits: Iterable[str] = ("a",)) -> Row:
    """Return a row of requests that are served, after which the connection stays open."""
    return Row(name, sent, tuple(answers), tuple(hits), stays_open=True)


def bad(name: str, sent: bytes, status: int = 400) -> Row:
    """Return a row of a request that is refused, and ends its connection: nothing behind it may be believed."""
    return Row(name, sent + _SMUGGLED, (status,))


PLAIN: Final = [
    good("a hit", request()),
    good("two hits in one packet", request() * 2, answers=(204, 204), hits=("a", "a")),
    good("a hit in chunks", framed(_CHUNKED, in_chunks())),
    good("a hit in chunks, then another", framed(_CHUNKED, in_chunks()) + request(), answers=[204] * 2, hits="aa"),
    good("chunk extensions", framed(_CHUNKED, b"a;name=value\r\n" + HIT + b"\r\n0\r\n\r\n")),
    good("blank lines first (9112, 2.2)", b"\r\n\r\n" + request()),
    good("a query", request(line=b"POST /analytics?from=here HTTP/1.1")),
    good("a body that says nothing", request(b"{}"), answers=[422], hits=""),
    good("a GET with a body that looks like a request", request(_SMUGGLED, line=_GET), answers=[200], hits=""),
    good("404", request(b"", line=b"GET /nowhere HTTP/1.1"), answers=[404], hits=""),
    Row("close", request(headers=b"connection: close\r\n"), (204,), ("a",)),
    Row("what follows close is not read", request(headers=b"connection: close\r\n") + _SMUGGLED, (204,), ("a",)),
]

SMUGGLING: Final = [  # RFC 9112, 6.3 and 11.2
    good(
        "Content-Length with 5,000 leading zeros (9110, 8.6)",
        framed(b"content-length: %b10\r\n" % (b"0" * 5_000), HIT),
    ),
    good("whitespace behind Content-Length (9112, 5.1)", framed(b"content-length: 10 \t\r\n", HIT)),
    good("whitespace behind chunked (9112, 5.1)", framed(b"transfer-encoding: chunked \r\n", in_chunks())),
    bad("CL.TE", framed(b"content-length: 6\r\n" + _CHUNKED, b"0\r\n\r\nG")),
    bad("TE.CL", framed(_CHUNKED + b"content-length: 4\r\n", b"5c\r\n" + _SMUGGLED + b"\r\n0\r\n\r\n")),
    bad("TE.TE, identity last", framed(_CHUNKED + b"transfer-encoding: identity\r\n", in_chunks())),
    bad("TE.TE, identity first", framed(b"transfer-encoding: identity\r\n" + _CHUNKED, in_chunks()), 501),
    bad("chunked twice", framed(_CHUNKED * 2, in_chunks())),
    bad("chunked twice in one line", framed(b"transfer-encoding: chunked, chunked\r\n", in_chunks())),
    bad("xchunked", framed(b"transfer-encoding: xchunked\r\n", in_chunks()), 501),
    bad("gzip, chunked (9112, 6.1)", framed(b"transfer-encoding: gzip, chunked\r\n", in_chunks()), 501),
    bad("gzip alone", framed(b"transfer-encoding: gzip\r\n", HIT), 501),
    bad("a vertical tab before chunked", framed(b"transfer-encoding:\x0bchunked\r\n", in_chunks())),
    bad("a space before the colon (9112, 5.1)", framed(b"transfer-encoding : chunked\r\n", in_chunks())),
    bad("chunked in HTTP/1.0 (9112, 6.1)", framed(_CHUNKED, in_chunks(), line=b"POST /analytics HTTP/1.0")),
    bad("Content-Length twice, the same", framed(b"content-length: 10\r\n" * 2, HIT)),
    bad("Content-Length twice, different", framed(b"content-length: 10\r\ncontent-length: 0\r\n", HIT)),
    bad("Content-Length as a list", framed(b"content-length: 10, 10\r\n", HIT)),
    bad("Content-Length +10", framed(b"content-length: +10\r\n", HIT)),
    bad("Content-Length -10", framed(b"content-length: -10\r\n", HIT)),
    bad("Content-Length 0xa", framed(b"content-length: 0xa\r\n", HIT)),
    bad("Content-Length with a space within", framed(b"content-length: 1 0\r\n", HIT)),
    bad("Content-Length without a value", framed(b"content-length:\r\n", HIT)),
    bad("Content-Length beyond 64 bits", framed(b"content-length: 99999999999999999999\r\n", HIT)),
    bad("obs-fold (9112, 5.2)", framed(b"content-length: 10\r\nx: a\r\n b\r\n", HIT)),
    bad("obs-fold in the framing", framed(b"content-length:\r\n 10\r\n", HIT)),
    bad("bare LF behind a header", framed(b"x: a\ncontent-length: 10\r\n", HIT)),
    bad("bare LF behind the request line", b"POST /analytics HTTP/1.1\nhost: x\ncontent-length: 10\n\n" + HIT),
    bad("bare CR in a value", framed(b"x: a\rcontent-length: 10\r\n", HIT)),
    bad("NUL in a value", framed(b"x: a\0b\r\ncontent-length: 10\r\n", HIT)),
    bad("no name", framed(b": a\r\ncontent-length: 10\r\n", HIT)),
    bad("white space before the first header", b"POST /analytics HTTP/1.1\r\n host: x\r\n\r\n"),
    bad("a name outside of ASCII", framed(b"x\xff: a\r\ncontent-length: 10\r\n", HIT)),
    bad("a chunk size with a space", framed(_CHUNKED, b"a \r\n" + HIT + b"\r\n0\r\n\r\n")),
    bad("a chunk size with a bare LF", framed(_CHUNKED, b"a\n" + HIT + b"\r\n0\r\n\r\n")),
    bad("a chunk size that is none", framed(_CHUNKED, b"xyz\r\n")),
    bad("a chunk size of -1", framed(_CHUNKED, b"-1\r\n")),
    bad("a chunk size beyond 64 bits", framed(_CHUNKED, b"fffffffffffffffff\r\n")),
    bad("a chunk without its CRLF", framed(_CHUNKED, b"a\r\n" + HIT + b"0\r\n\r\n")),
    bad("a chunk longer than it says", framed(_CHUNKED, b"1\r\n" + HIT + b"\r\n0\r\n\r\n")),
]

UPGRADES: Final = [  # RFC 9110, 7.8
    good("h2c with a body", request(headers=_H2C)),
    good("h2c with a body in chunks", framed(_H2C + _CHUNKED, in_chunks())),
    good("h2c, then another request", request(headers=_H2C) + request(), answers=[204] * 2, hits="aa"),
    good("h2c three times in one packet", request(headers=_H2C) * 3, answers=[204] * 3, hits="aaa"),
    good("h2c without a body", request(b"", _H2C, line=_GET), answers=[200], hits=""),
    good("h2c with a request for a body (C4)", request(_SMUGGLED, _H2C), answers=[400], hits=""),
    good("h2c with a request in chunks", framed(_H2C + _CHUNKED, in_chunks(_SMUGGLED)), answers=[400], hits=""),
    good("h2c for a batch", request(b'[{"id":"a"}]', _H2C, line=b"POST /analytics/batch HTTP/1.1")),
    good("h2c and an expectation", request(headers=_H2C + b"expect: 100-continue\r\n"), answers=[100, 204]),
    good("websocket with a body", request(headers=_WEBSOCKET)),
    good("websocket without a body", request(b"", _WEBSOCKET, line=_GET), answers=[200], hits=""),
    good("some protocol that nobody knows", request(headers=b"connection: upgrade\r\nupgrade: foo/2\r\n")),
    good("Upgrade that Connection does not name", request(headers=b"upgrade: h2c\r\n")),
    good("Connection that names no Upgrade", request(headers=b"connection: upgrade\r\n")),
    Row("h2c and close", request(headers=b"connection: upgrade, close\r\nupgrade: h2c\r\n"), (204,), ("a",)),
    Row("h2c in HTTP/1.0", request(headers=_H2C, line=b"POST /analytics HTTP/1.0"), (204,), ("a",)),
    bad("h2c with CL.TE", framed(_H2C + b"content-length: 6\r\n" + _CHUNKED, b"0\r\n\r\nG")),
    bad("h2c with Content-Length twice", framed(_H2C + b"content-length: 10\r\n" * 2, HIT)),
    bad("h2c without Host", request(b"", _H2C, line=_GET, host=b"")),
    bad("h2c with gzip, chunked", framed(_H2C + b"transfer-encoding: gzip, chunked\r\n", in_chunks()), 501),
    bad("CONNECT", request(b"", line=b"CONNECT example.org:443 HTTP/1.1")),
    bad("CONNECT with a body", request(line=b"CONNECT example.org:443 HTTP/1.1")),
    bad("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    bad("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    bad("a line of the PROXY protocol", b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n"),
]

EXPECTATIONS: Final = [  # RFC 9110, 10.1.1
    good("100-continue with its body", request(headers=b"expect: 100-continue\r\n"), answers=[100, 204]),
    good("100-Continue in capitals", request(headers=b"Expect: 100-Continue\r\n"), answers=[100, 204]),
    Row(
        "100-continue in HTTP/1.0 is ignored",
        request(headers=b"expect: 100-continue\r\n", line=b"POST /analytics HTTP/1.0"),
        (204,),
        ("a",),
    ),
    good(
        "whitespace behind 100-continue (9112, 5.1)", request(headers=b"expect: 100-continue \r\n"), answers=[100, 204]
    ),
]

PIPELINES: Final = [  # RFC 9112, 9.3.2
    good("ten hits", request() * 10, answers=[204] * 10, hits="a" * 10),
    good("ten hits in chunks", framed(_CHUNKED, in_chunks()) * 10, answers=[204] * 10, hits="a" * 10),
    good("reads and hits in turn", (request() + request(b"", line=_GET)) * 5, answers=[204, 200] * 5, hits="a" * 5),
    good("bad and good in turn", (request(b"{}") + request()) * 5, answers=[422, 204] * 5, hits="a" * 5),
    good("three hundred hits", request() * 300, answers=[204] * 300, hits="a" * 300),
    Row(
        "the third closes",
        request() * 2 + request(headers=b"connection: close\r\n") + _SMUGGLED,
        (204,) * 3,
        ("a",) * 3,
    ),
]

TRAILERS: Final = [  # RFC 9110, 6.5.1
    good("a trailer", framed(_CHUNKED, in_chunks(trailers=b"x: y\r\n"))),
    good("a durability that there is not", framed(_CHUNKED, in_chunks(trailers=b"hitcounter-durability: no\r\n"))),
    good("two keys", framed(_CHUNKED, in_chunks(trailers=b"idempotency-key: a\r\nidempotency-key: b\r\n"))),
    good("another Host", framed(_CHUNKED, in_chunks(trailers=b"host: y\r\n"))),
    good(
        "a trailer, then another request",
        framed(_CHUNKED, in_chunks(trailers=b"x: y\r\n")) * 2,
        answers=[204] * 2,
        hits="aa",
    ),
    Row(
        "Connection: close (9112, 9.6)", framed(_CHUNKED, in_chunks(trailers=b"connection: close\r\n")), (204,), ("a",)
    ),
    bad("obs-fold in a trailer", framed(_CHUNKED, b"1\r\n{\r\n0\r\nx: y\r\n z\r\n\r\n")),
]

TARGETS: Final = [  # RFC 9112, 3.2
    good("absolute-form", request(line=b"POST http://x:8001/analytics HTTP/1.1")),
    good("absolute-form with a query", request(line=b"POST http://x/analytics?y=z HTTP/1.1")),
    good("absolute-form without a path", request(b"", line=b"GET http://x HTTP/1.1"), answers=[404], hits=""),
    good("absolute-form with a query alone", request(b"", line=b"GET http://x?y HTTP/1.1"), answers=[404], hits=""),
    good("two slashes", request(line=b"POST //analytics HTTP/1.1"), answers=[404], hits=""),
    good("an asterisk", request(b"", line=b"GET * HTTP/1.1"), answers=[404], hits=""),
    bad("no slash", request(line=b"POST analytics HTTP/1.1")),
    bad("a URL without a host", request(line=b"POST http:///analytics HTTP/1.1")),
    bad("bytes outside of ASCII", request(line=b"POST /analytics/\xc3\xa9 HTTP/1.1")),
    bad("a space", request(line=b"POST /analytics /x HTTP/1.1")),
    bad("no method that there is", request(line=b"TRACK /analytics HTTP/1.1")),
    bad("a method in small letters", request(line=b"post /analytics HTTP/1.1")),
]

HOSTS: Final = [  # RFC 9112, 3.2
    bad("no Host", request(host=b"")),
    bad("no Host, a read", request(b"", host=b"", line=_GET)),
    bad("two Hosts, the same", request(host=b"host: x\r\nHost: x\r\n")),
    bad("two Hosts, different", request(host=b"host: x\r\nhost: y\r\n")),
    bad("two Hosts in HTTP/1.0", request(host=b"host: x\r\nhost: y\r\n", line=b"POST /analytics HTTP/1.0")),
    bad("a space in Host", request(host=b"host: x y\r\n")),
    bad("a path in Host", request(host=b"host: x/y\r\n")),
    bad("a user in Host", request(host=b"host: user@x\r\n")),
    bad("two hosts in one Host", request(host=b"host: x, y z\r\n")),
    bad("a Host outside of ASCII", request(host=b"host: \xc3\xa9\r\n")),
    good("an empty Host", request(host=b"host:\r\n")),
    good("whitespace behind Host (9112, 5.1)", request(host=b"host: x \t\r\n")),
    good("Host with a port", request(host=b"Host: hits.example.com:8001\r\n")),
    good("Host with an underscore", request(host=b"host: hit_counter\r\n")),
    good("an IPv6 address", request(host=b"host: [::1]:8001\r\n")),
]

VERSIONS: Final = [
    Row("HTTP/1.0", request(line=b"POST /analytics HTTP/1.0"), (204,), ("a",)),
    Row("HTTP/1.0 without Host", request(host=b"", line=b"POST /analytics HTTP/1.0"), (204,), ("a",)),
    Row(
        "HTTP/1.0 with keep-alive",
        request(headers=b"connection: keep-alive\r\n", line=b"POST /analytics HTTP/1.0"),
        (204,),
        ("a",),
    ),
    bad("HTTP/2.0", request(line=b"POST /analytics HTTP/2.0")),
    bad("HTTP/1.2", request(line=b"POST /analytics HTTP/1.2")),
    bad("HTTP/0.9", b"GET /analytics/a\r\n\r\n"),
    bad("http/1.1", request(line=b"POST /analytics http/1.1")),
    bad("no version", request(line=b"POST /analytics")),
]


def _head(path: str, status: int = 200) -> Row:
    sent = request(b"", line=f"HEAD {path} HTTP/1.1".encode())
    return Row(f"HEAD {path}", sent, (status,), stays_open=True, has_bodies=False)


METHODS: Final = [  # RFC 9110, 9.3.2 and 9.3.7
    _head("/analytics/a"),
    _head("/status"),
    _head("/openapi.json"),
    _head("/docs"),
    _head("/history/a"),
    _head("/nowhere", 404),
    good("OPTIONS /analytics", request(b"", line=b"OPTIONS /analytics HTTP/1.1"), hits=""),
    good("OPTIONS /analytics/a", request(b"", line=b"OPTIONS /analytics/a HTTP/1.1"), hits=""),
    good("OPTIONS *", request(b"", line=b"OPTIONS * HTTP/1.1"), hits=""),
    good("OPTIONS with a body", request(line=b"OPTIONS /analytics HTTP/1.1"), hits=""),
    good("DELETE", request(b"", line=b"DELETE /analytics HTTP/1.1"), answers=[405], hits=""),
]

CORPUS: Final = {
    "plain": PLAIN,
    "smuggling": SMUGGLING,
    "upgrades": UPGRADES,
    "expectations": EXPECTATIONS,
    "pipelines": PIPELINES,
    "trailers": TRAILERS,
    "targets": TARGETS,
    "hosts": HOSTS,
    "versions": VERSIONS,
    "methods": METHODS,
}
