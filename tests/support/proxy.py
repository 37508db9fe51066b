"""A faulty wire: a TCP proxy between one of our parts and one of its servers.

It runs on a thread of its own, so that a test may block while traffic flows. Faults are switched on and off while
connections are open.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

_CHUNK = 64 * 1024
_CHUNKS_UNDER_WAY = 1024


class FaultyWire:
    """A proxy to one address; a context manager. Its methods may be called from any thread.

    Args:
        target_url: what it leads to.
        latency_seconds: how far away the target is: every request arrives that much later. Unlike `delay` it limits no
            throughput, since many chunks are under way at once.

    Attributes:
        held: set once a request was held back or an answer swallowed, as asked for.
    """

    def __init__(self, target_url: str, *, latency_seconds: float = 0.0) -> None:
        self._target = urlsplit(target_url)
        self._latency_seconds = latency_seconds
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="faulty wire", daemon=True)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flowing: asyncio.Event
        self._delay_seconds = 0.0
        self._refusing = False
        self._hold_marker: bytes | None = None
        self._swallow_marker: bytes | None = None
        self._swallows_left = 0
        self._is_silent = False
        self._released: asyncio.Event
        self.held = threading.Event()
        self.port = 0

    @property
    def url(self) -> str:
        """The address to use in place of the target's."""
        return self._target._replace(netloc=f"127.0.0.1:{self.port}").geturl()

    # ── faults ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def delay(self, seconds: float) -> None:
        """Hold every chunk, in both directions, for that long."""
        self._call(lambda: setattr(self, "_delay_seconds", seconds))

    def set_latency(self, seconds: float) -> None:
        """Move the target nearer, or further away. A wire that began without latency keeps its open connections so."""
        self._call(lambda: setattr(self, "_latency_seconds", seconds))

    def blackhole(self) -> None:
        """Swallow nothing, deliver nothing: connections stay open and silent until `heal`."""
        self._call(self._flowing.clear)

    def cut(self) -> None:
        """Reset every connection that is open now."""
        self._call(self._cut)

    def refuse(self) -> None:
        """Reset every connection, now and in future, until `heal`."""

        def refuse() -> None:
            self._refusing = True
            self._cut()

        self._call(refuse)

    def lead_to(self, target_url: str) -> None:
        """Lead new connections to another server, as a name does that now stands for another address."""
        self._call(lambda: setattr(self, "_target", urlsplit(target_url)))

    def hold_requests_with(self, marker: bytes) -> None:
        """From the first request that contains the marker on, let nothing of its connection through."""

        def hold() -> None:
            self._hold_marker, self._released = marker, asyncio.Event()

        self.held.clear()
        self._call(hold)

    def release(self) -> None:
        """Let through what was held, late as it is."""

        def release() -> None:
            self._hold_marker = None
            self._released.set()

        self._call(release)

    def swallow_answers_to(self, marker: bytes, times: int = 1, *, is_silent: bool = False) -> None:
        """Deliver a request that contains the marker, but not its answer.

        Args:
            marker: what to look for.
            times: how many requests.
            is_silent: leave the connection open, so that its owner waits; else it is cut.
        """

        def swallow() -> None:
            self._swallow_marker, self._swallows_left, self._is_silent = marker, times, is_silent

        self.held.clear()
        self._call(swallow)

    def heal(self) -> None:
        """Take all faults away."""

        def heal() -> None:
            self._delay_seconds, self._refusing = 0.0, False
            self._hold_marker = self._swallow_marker = None
            self._flowing.set()

        self._call(heal)

    # ── wire ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def __enter__(self) -> FaultyWire:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(5)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def _call(self, action: object) -> None:
        assert callable(action)
        done = threading.Event()

        def run() -> None:
            action()
            done.set()

        self._loop.call_soon_threadsafe(run)
        done.wait(5)

    async def _start(self) -> None:
        self._flowing, self._released = asyncio.Event(), asyncio.Event()
        self._flowing.set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self._cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            # Only `_stop` cancels, and asyncio's streams would report that as if it were a fault.
            with contextlib.suppress(asyncio.CancelledError):
                await self._carry(reader, writer)
        finally:
            self._tasks.discard(task)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        except OSError:
            writer.transport.abort()
            return
        connection = _Connection()
        with self._tracked(writer), self._tracked(far_writer):
            there = asyncio.create_task(self._pump(reader, far_writer, connection, is_request=True))
            back = asyncio.create_task(self._pump(far_reader, writer, connection, is_request=False))
            try:
                await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (there, back):
                    task.cancel()
                await asyncio.gather(there, back, return_exceptions=True)

    async def _pump(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, connection: _Connection, *, is_request: bool
    ) -> None:
        chunks = self._travel(source) if is_request and self._latency_seconds else _read(source)
        with contextlib.suppress(OSError):
            async for chunk in chunks:
                if self._delay_seconds:
                    await asyncio.sleep(self._delay_seconds)
                await self._flowing.wait()
                if is_request:
                    self._look_at(chunk, connection)
                elif connection.is_swallowing:
                    self.held.set()
                    if connection.is_silent:
                        continue
                    return
                if connection.is_held:
                    self.held.set()
                    await self._released.wait()
                target.write(chunk)
                await target.drain()

    async def _travel(self, source: asyncio.StreamReader) -> AsyncIterator[bytes]:
        """Yield what is sent, each chunk as late as the distance makes it."""
        loop = asyncio.get_running_loop()
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_CHUNKS_UNDER_WAY)

        async def send() -> None:
            with contextlib.suppress(OSError):
                async for chunk in _read(source):
                    await under_way.put((loop.time() + self._latency_seconds, chunk))
            await under_way.put((loop.time() + self._latency_seconds, b""))

        sending = asyncio.create_task(send())
        try:
            while True:
                due, chunk = await under_way.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                if not chunk:
                    return
                yield chunk
        finally:
            sending.cancel()

    def _look_at(self, chunk: bytes, connection: _Connection) -> None:
        if self._hold_marker is not None and self._hold_marker in chunk:
            connection.is_held = True
        if self._swallow_marker is not None and self._swallow_marker in chunk and self._swallows_left > 0:
            self._swallows_left -= 1
            connection.is_swallowing, connection.is_silent = True, self._is_silent

    @contextlib.contextmanager
    def _tracked(self, writer: asyncio.StreamWriter) -> Iterator[None]:
        self._writers.add(writer)
        try:
            yield
        finally:
            self._writers.discard(writer)
            writer.transport.abort()


async def _read(source: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while chunk := await source.read(_CHUNK):
        yield chunk


class _Connection:
    """What was decided for one connection."""

    is_held = False
    is_swallowing = False
    is_silent = False
