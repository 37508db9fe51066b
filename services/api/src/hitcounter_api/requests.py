"""Reading what a client sent: the body up to a limit, the header that counts, the id in a path. No framework."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_to_bytes

from hitcounter.entries import Durability
from hitcounter.errors import InvalidHit
from hitcounter.hits import check_id

from hitcounter_api.intake import Refusal, RefusalReason
from hitcounter_api.problems import Kind, Problem, problem_of_hit, problem_of_refusal, show

Scope = Mapping[str, Any]
Headers = Iterable[tuple[bytes, bytes]]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

HIT_MAX_BYTES: Final = 16 * 1024
BATCH_MAX_BYTES: Final = 1024 * 1024
BODY_MAX_SECONDS: Final = 10.0
"""How long a body may take that did not come whole with its head: a slow client must not keep its part in memory."""

_NOTEWORTHY = frozenset((b"content-length", b"idempotency-key", b"hitcounter-durability", b"content-encoding"))
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")


class ClientGone(Exception):
    """The client hung up before its request was complete: nobody waits for an answer."""


class BodyRoom:
    """The memory that bodies may take together while they arrive."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._taken_bytes = 0

    def take(self, size_bytes: int) -> None:
        """Take room for more of a body.

        Raises:
            Problem: there is not enough.
        """
        if self._taken_bytes + size_bytes > self._max_bytes:
            detail = f"the bodies that are arriving take {self._taken_bytes:,} bytes already"
            raise problem_of_refusal(Refusal(RefusalReason.FULL, detail))
        self._taken_bytes += size_bytes

    def give_back(self, size_bytes: int) -> None:
        """Give back what a body took."""
        self._taken_bytes -= size_bytes


async def read_body(receive: Receive, declared_bytes: int, max_bytes: int, room: BodyRoom | None = None) -> bytes:
    """Read the body, but never more of it than max_bytes.

    Args:
        receive: the ASGI channel of the request.
        declared_bytes: its Content-Length; 0 if there is none.
        max_bytes: the limit.
        room: what all bodies that arrive at once may take together.

    Raises:
        Problem: it is too large, or too slow, or there is no room for it.
        ClientGone: there is no more of it.
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
                if room is not None:
                    room.take(len(piece))
                body += piece
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError as error:
        # The rest of it would be taken for the next request: this connection is of no more use.
        raise Problem(
            Kind.SLOW_BODY,
            f"the body was not complete after {BODY_MAX_SECONDS:g} seconds",
            {"limit": BODY_MAX_SECONDS},
            headers=[("connection", "close")],
        ) from error
    finally:
        if room is not None:
            room.give_back(len(body))


def check_size(size_bytes: int, max_bytes: int) -> None:
    """Refuse a body that is, or says that it is, too large.

    Raises:
        Problem: it is.
    """
    if size_bytes > max_bytes:
        raise Problem(
            Kind.TOO_LARGE, f"the body has more than {max_bytes:,} bytes", {"value": size_bytes, "limit": max_bytes}
        )


class TrackHeaders(NamedTuple):
    """What counts of the headers of a request that brings hits."""

    declared_bytes: int = 0
    """Its Content-Length; 0 if there is none."""
    key: str | None = None
    """Its Idempotency-Key."""
    durability: Durability | None = None
    """What its hits shall have survived when they are acknowledged."""


def read_headers(headers: Headers) -> TrackHeaders:
    """Return what counts of the headers.

    Raises:
        InvalidHit: the key comes twice or is not UTF-8, or there is no such durability.
        Problem: the body is compressed.
    """
    declared_bytes = 0
    key = None
    durability = None
    for name, value in headers:
        if name not in _NOTEWORTHY:
            continue
        if name == b"content-length":
            declared_bytes = int(value)
        elif name == b"idempotency-key":
            if key is not None:
                raise InvalidHit("Idempotency-Key", "the header is there more than once")
            key = _read_key(value)
        elif name == b"hitcounter-durability":
            durability = _read_durability(value)
        else:
            _check_encoding(value)
    return TrackHeaders(declared_bytes, key, durability)


def _read_key(value: bytes) -> str:
    """Return the key, without the quotes that the header's draft standard puts around it and most clients do not."""
    try:
        key = value.decode()
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
    """Refuse a compressed body: 16 KiB hold a bomb of 16 MiB. RFC 9110, 15.5.16: 415 with what is taken instead."""
    if value.strip().lower() not in (b"", b"identity"):
        raise Problem(
            Kind.CONTENT_ENCODING,
            "the body is compressed; send it as it is",
            {"field": "Content-Encoding", "value": show(value.decode("latin-1")), "limit": "identity"},
            headers=[("accept-encoding", "identity")],
        )


def read_traceparent(headers: Headers) -> str:
    """Return what the request is called in logs: its own `traceparent` (W3C Trace Context), or a new one."""
    for name, value in headers:
        if name == b"traceparent" and _TRACEPARENT.fullmatch(value):
            return value[:55].decode()
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"


def read_id(raw_path: bytes, prefix: bytes) -> str:
    """Return the id in the path: all that follows the prefix, percent-decoded once, slashes and dots as they are.

    Raises:
        Problem: the rest is not percent-encoded UTF-8 or not an id, or the prefix itself came in disguise.
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
        raise problem_of_hit(error, {"id": id_}, None) from error
