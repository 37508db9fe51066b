"""The client and the readers of a run, in one event loop on a thread of their own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time

import uvloop

from tests.chaos.client import OpenLoopClient
from tests.chaos.reader import AsOfReaders


class Traffic:
    """Sends and reads from the beginning of the block to its end; a context manager."""

    def __init__(self, client: OpenLoopClient, readers: AsOfReaders) -> None:
        self.client = client
        self.readers = readers
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="traffic")
        self._task: asyncio.Task[None]

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(lambda: self._task.cancel())
        self._thread.join()

    def _run(self) -> None:
        self._task = self._loop.create_task(self._work())
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._task)
        self._loop.close()

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.client.run(time.perf_counter_ns()))
            group.create_task(self.readers.run())
