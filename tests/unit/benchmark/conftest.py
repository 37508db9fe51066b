"""A small API of our own, which can be told to misbehave: what the benchmark says of it is what is tested."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import cast
from urllib.parse import unquote

import httptools
import orjson
import pytest


@dataclass
class Misbehaviour:
    """What the sink does wrong; each number is of every so-manieth POST, 0 for never."""

    loses_probes: bool = False
    loses_every: int = 0
    doubles_every: int = 0
    refuses_every: int = 0
    takes_and_says_unknown_every: int = 0
    takes_and_cuts_every: int = 0
    takes_and_hangs_every: int = 0
    is_bad_request: bool = False
    as_of_lag_seconds: float = 0.0
    as_of: str | None = "now"
    backlog: int = 0


@dataclass
class Sink:
    """Counts hits in a dictionary, and answers as Track and the reads do."""

    url: str = ""
    misbehaviour: Misbehaviour = field(default_factory=Misbehaviour)
    counts: Counter[str] = field(default_factory=Counter)
    posts: int = 0
    was_posted_to: threading.Event = field(default_factory=threading.Event)
    connections: int = 0


class SinkConnection(asyncio.Protocol):
    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._parser = httptools.HttpRequestParser(self)
        self._path = ""
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._sink.connections += 1
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._path, self._body = "", b""

    def on_url(self, url: bytes) -> None:
        self._path += url.decode()

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self._parser.get_method() == b"POST":
            self._track()
        elif self._path == "/status":
            backlog = self._sink.misbehaviour.backlog
            self._answer(200, {"accepted": self._sink.counts.total(), "backlog": backlog, "as_of": self._as_of()})
        else:
            self._tell(unquote(self._path.removeprefix("/analytics/")))

    def _track(self) -> None:
        sink, wrong = self._sink, self._sink.misbehaviour
        sink.posts += 1
        sink.was_posted_to.set()
        is_turn: Callable[[int], bool] = lambda every: bool(every) and sink.posts % every == 0  # noqa: E731
        if wrong.is_bad_request:
            self._answer(422, {"detail": "no"})
        elif is_turn(wrong.refuses_every):
            self._answer(503, {"outcome": "refused"})
        elif is_turn(wrong.loses_every):
            self._answer(204)
        else:
            self._take(2 if is_turn(wrong.doubles_every) else 1)
            if is_turn(wrong.takes_and_cuts_every):
                self._transport.abort()
            elif is_turn(wrong.takes_and_says_unknown_every):
                self._answer(503, {"outcome": "unknown"})
            elif not is_turn(wrong.takes_and_hangs_every):
                self._answer(204)

    def _take(self, times: int) -> None:
        hits = orjson.loads(self._body)
        for hit in hits if isinstance(hits, list) else [hits]:
            if self._sink.misbehaviour.loses_probes and hit["id"].startswith("freshness-"):
                continue
            self._sink.counts[hit["id"]] += times

    def _tell(self, hit_id: str) -> None:
        headers = {"Hitcounter-As-Of": self._as_of()}
        count = self._sink.counts[hit_id]
        windows = ("3 days ago", "2 days ago", "1 day ago", "1 hour ago", "5 minutes ago")
        self._answer(200, {"id": hit_id, "counts": [{"reference": w, "count": count} for w in windows]}, headers)

    def _as_of(self) -> str | None:
        wrong = self._sink.misbehaviour
        as_of = datetime.now(UTC) - timedelta(seconds=wrong.as_of_lag_seconds)
        return as_of.isoformat() if wrong.as_of == "now" else wrong.as_of

    def _answer(self, status: int, content: object = None, headers: dict[str, str | None] | None = None) -> None:
        body = b"" if content is None else orjson.dumps(content)
        lines = [f"{name}: {value}" for name, value in (headers or {}).items() if value is not None]
        length = [] if status == 204 else [f"Content-Length: {len(body)}"]
        head = "\r\n".join([f"HTTP/1.1 {status} X", *lines, *length, "", ""])
        self._transport.write(head.encode() + body)


@pytest.fixture
def sink() -> Iterator[Sink]:
    """A running sink, on a loop and thread of its own, since the command under test runs a loop too."""
    served = Sink()
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(loop.create_server(lambda: SinkConnection(served), "127.0.0.1", 0))
    served.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield served
    loop.call_soon_threadsafe(server.close)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


@pytest.fixture
def misbehaviour(sink: Sink) -> Misbehaviour:
    """What the running sink does wrong: nothing, until a test sets it."""
    return sink.misbehaviour
