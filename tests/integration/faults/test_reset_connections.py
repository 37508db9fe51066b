"""Connections that are reset as soon as they are open, as a proxy does whose server is gone."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

import uvloop
from hitcounter.codec import build_batch
from hitcounter.errors import StreamUnavailable
from hitcounter.hits import Hit
from hitcounter.settings import RedisSettings
from hitcounter.stream import open_stream
from pydantic import SecretStr

_TIMES = 500
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def test_every_reset_is_reported_as_redis_being_away() -> None:
    with _resetting_server() as url:
        # On uvloop, as the services are: what it says of a connection that is gone is not what asyncio's own loop says.
        assert uvloop.run(_count_outages(url)) == 2 * _TIMES


async def _count_outages(url: str) -> int:
    outages = 0
    async with open_stream(RedisSettings(url=SecretStr(url))) as stream:
        for sequence in range(1, _TIMES + 1):
            batch = build_batch(b"twelve bytes", sequence, [Hit("x", 1)])
            for call in (stream.monitor.status(), stream.producer.append(batch, timeout_seconds=1.0)):
                try:
                    await call
                except StreamUnavailable:
                    outages += 1
    return outages


@contextlib.contextmanager
def _resetting_server() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_reset_all, args=(listener,))
        thread.start()
        try:
            yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _reset_all(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
