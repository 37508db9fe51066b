"""One keep-alive HTTP/1.1 connection with at most one request in flight.

The usual response of Track is a 204 in one piece. It is recognized by its first and last bytes, without a parser. All
other responses are parsed by httptools.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, cast

import httptools


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete HTTP answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


NO_CONTENT: Final = Answer(204)
"""The one object that stands for every plain 204, so that the load can compare by identity."""


class Connection(asyncio.Protocol):
    """A connection whose answers and end are told to two callbacks.

    ``on_answer`` is called with each answer, ``on_lost`` once, when the connection is gone for whatever reason, also
    after `close`. Whoever made the connection closes it.
    """

    def __init__(self, on_answer: Callable[[Answer], None], on_lost: Callable[[], None]) -> None:
        self._on_answer = on_answer
        self._on_lost = on_lost
        self._parser: httptools.HttpResponseParser | None = None
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self.send: Callable[[bytes], None] = _refuse
        """Write one request; the transport's own method, since this is called once per hit."""
        self.is_open = False
        """Whether another request may be sent."""

    def close(self) -> None:
        """Cut the connection at once, whatever is in flight."""
        self.is_open = False
        self.send = _refuse
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport (called by the loop)."""
        self._transport = cast(asyncio.Transport, transport)
        self.send = self._transport.write
        self.is_open = True

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the owner (called by the loop)."""
        self.is_open = False
        self.send = _refuse
        self._on_lost()

    def data_received(self, data: bytes) -> None:
        """Recognise or parse what arrived (called by the loop)."""
        if (
            self._parser is None
            and data.startswith(b"HTTP/1.1 204")
            and data.endswith(b"\r\n\r\n")
            and b"onnection: close" not in data
        ):
            self._on_answer(NO_CONTENT)
        else:
            self._parse(data)

    def _parse(self, data: bytes) -> None:
        if self._parser is None:
            self._parser = httptools.HttpResponseParser(self)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    # What follows is called by httptools while it is fed.

    def on_message_begin(self) -> None:
        """Start a new answer."""
        self._headers = {}
        self._body = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep one header."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        """Keep one piece of the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Pass the answer on, or cut the connection first if the server will not use it again."""
        parser = self._parser
        assert parser is not None  # noqa: S101 -- the parser is what calls this
        self._parser = None
        answer = Answer(parser.get_status_code(), self._headers, b"".join(self._body))
        if not parser.should_keep_alive():
            self.close()
        self._on_answer(answer)


def _refuse(request: bytes) -> None:
    raise ConnectionError(f"no connection to write {len(request)} bytes to")
