"""Reads what a client sent: the body up to a limit, the relevant headers, the id in a path. Without the framework."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_to_bytes

from hitcounter.entries import Durability
from hitcounter.errors import InvalidHit
from hitcounter.hits import check_id

from hitcounter_api.intake import IntakeFull
from hitcounter_api.problems import Kind, Problem, problem_of, show

Scope = Mapping[str, Any]
Headers = Iterable[tuple[bytes, bytes]]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

HIT_MAX_BYTES: Final = 16 * 1024
BATCH_MAX_BYTES: Final = 1024 * 1024
BODY_MAX_SECONDS: Final = 10.0
"""Time limit for a body that did not arrive together with its head, so that slow clients do not fill the memory."""

_NOTEWORTHY = frozenset(
    (b"content-length", b"idempotency-key", b"hitcounter-durability", b"content-encoding", b"authorization")
)
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")


class ClientGone(Exception):
    """The client closed the connection before its request was complete. There is nobody to answer."""


class BodyRoom:
    """Limits the memory of all bodies that are arriving or in progress."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._taken_bytes = 0

    @contextlib.contextmanager
    def reserve(self) -> Iterator[Callable[[int], None]]:
        """Return a function that reserves memory for a part of one body. All of it is released when the block ends.

        The function raises IntakeFull if the limit is reached.
        """
        body_bytes = 0

        def take(size_bytes: int) -> None:
            nonlocal body_bytes
            if self._taken_bytes + size_bytes > self._max_bytes:
                raise IntakeFull(f"the bodies of batches already take {self._taken_bytes:,} bytes")
            self._taken_bytes += size_bytes
            body_bytes += size_bytes

        try:
            yield take
        finally:
            self._taken_bytes -= body_bytes


async def read_body(
    receive: Receive, declared_bytes: int, max_bytes: int, reserve: Callable[[int], None] | None = None
) -> bytes:
    """Read the body, at most max_bytes of it.

    Args:
        receive: the ASGI channel of the request.
        declared_bytes: its Content-Length; 0 if there is none.
        max_bytes: the limit.
        reserve: called with the size of each part: see BodyRoom.

    Raises:
        Problem: it is too large or too slow.
        IntakeFull: the common limit is reached.
        ClientGone: the client closed the connection before the end.
    """
    check_size(declared_bytes, max_bytes)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_MAX_SECONDS):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise ClientGone
                piece = message.get("body", b"")
                check_size(len(body) + len(piece), max_bytes)
                if reserve is not None:
                    reserve(len(piece))
                body += piece
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError as error:
        # The rest of the body would be parsed as the next request, so the connection must be closed.
        raise Problem(
            Kind.SLOW_BODY,
            f"the body was not complete after {BODY_MAX_SECONDS:g} seconds",
            {"limit": BODY_MAX_SECONDS},
            headers=[("connection", "close")],
        ) from error


def check_size(size_bytes: int, max_bytes: int) -> None:
    """Check the size of a body, or its declared size.

    Raises:
        Problem: it is too large.
    """
    if size_bytes > max_bytes:
        raise Problem(
            Kind.TOO_LARGE, f"the body has more than {max_bytes:,} bytes", {"value": size_bytes, "limit": max_bytes}
        )


class TrackHeaders(NamedTuple):
    """The relevant headers of a request with hits."""

    declared_bytes: int = 0
    """Its Content-Length; 0 if there is none."""
    key: str | None = None
    """Its Idempotency-Key."""
    durability: Durability | None = None
    """The durability that its hits need before they are acknowledged."""
    authorization: bytes | None = None
    """Its Authorization header. Several are joined, which no key matches."""


def read_headers(headers: Headers) -> TrackHeaders:
    """Return the relevant headers.

    Raises:
        InvalidHit: the key is repeated or not UTF-8, or the durability is unknown.
        Problem: the body is compressed.
    """
    declared_bytes = 0
    key = None
    durability = None
    authorization = None
    for name, value in headers:
        if name not in _NOTEWORTHY:
            continue
        if name == b"content-length":
            try:
                declared_bytes = int(value)
            except ValueError:  # int() refuses more than 4,300 digits, and the parser allows leading zeros
                declared_bytes = int(b"0" + value.lstrip(b"0"))
        elif name == b"idempotency-key":
            if key is not None:
                raise InvalidHit("Idempotency-Key", "the request has more than one of this header")
            key = _read_key(value)
        elif name == b"hitcounter-durability":
            durability = _read_durability(value)
        elif name == b"authorization":
            authorization = value if authorization is None else b"%b, %b" % (authorization, value)
        else:
            _check_encoding(value)
    return TrackHeaders(declared_bytes, key, durability, authorization)


def _read_key(value: bytes) -> str:
    """Return the key without quotes. The draft standard of the header requires them; most clients omit them."""
    try:
        key = value.rstrip(b" \t").decode()  # RFC 9112, 5.1; the parser leaves it
    except UnicodeDecodeError as error:
        raise InvalidHit("Idempotency-Key", "the header is not UTF-8") from error
    return key[1:-1] if len(key) > 1 and key[0] == key[-1] == '"' else key


def _read_durability(value: bytes) -> Durability:
    try:
        return Durability(value.decode("latin-1"))
    except ValueError:
        known = " or ".join(Durability)
        raise InvalidHit("Hitcounter-Durability", f"the durability must be {known}", known) from None


def _check_encoding(value: bytes) -> None:
    """Reject a compressed body: 16 KiB can expand to 16 MiB. RFC 9110, 15.5.16: 415 lists what is accepted."""
    if value.strip().lower() not in (b"", b"identity"):
        raise Problem(
            Kind.CONTENT_ENCODING,
            "the body is compressed; send it uncompressed",
            {"field": "Content-Encoding", "value": show(value.decode("latin-1")), "limit": "identity"},
            headers=[("accept-encoding", "identity")],
        )


def read_traceparent(headers: Headers) -> str:
    """Return the `traceparent` of the request (W3C Trace Context) for logs, or a new one if it has none."""
    for name, value in headers:
        if name == b"traceparent" and _TRACEPARENT.fullmatch(value):
            return value[:55].decode()
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"


def read_id(raw_path: bytes, prefix: bytes) -> str:
    """Return the id in the path: everything after the prefix, percent-decoded once, with slashes and dots unchanged.

    Raises:
        Problem: the rest is not percent-encoded UTF-8 or not a valid id, or the prefix itself is percent-encoded.
    """
    if not raw_path.startswith(prefix):
        raise Problem(Kind.NOT_FOUND, f"the path does not begin with {prefix.decode()}")
    encoded = raw_path.removeprefix(prefix)
    if broken := _BROKEN_ESCAPE.search(encoded):
        at = broken.start()
        raise Problem(
            Kind.MALFORMED_PATH,
            "a percent sign is not followed by two hexadecimal digits",
            {"field": "id", "value": encoded[at : at + 3].decode("latin-1")},
        )
    try:
        id_ = unquote_to_bytes(encoded).decode()
    except UnicodeDecodeError as error:
        raise Problem(Kind.MALFORMED_PATH, f"the id is not UTF-8: {error.reason}", {"field": "id"}) from error
    try:
        return check_id(id_)
    except InvalidHit as error:
        raise problem_of(error, {"id": id_}) from error
