"""Reads during a load: the counts of one id at a constant rate, no matter how long the responses take."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator

from hitcounter_benchmark.client import Client, ClientError
from hitcounter_benchmark.histogram import Histogram
from hitcounter_benchmark.reading import read


class ReadLoad:
    """Reads one id again and again; the client is used by this object alone."""

    def __init__(self, client: Client, hit_id: str, *, per_second: float) -> None:
        self.latency = Histogram()
        """From the intended time of asking, as in the open loop of hits."""
        self.errors: Counter[str] = Counter()
        self._client = client
        self._hit_id = hit_id
        self._every_seconds = 1 / per_second
        self._is_stopped = False

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """Read inside the block; at its end, the answers under way are waited for."""
        task = asyncio.create_task(self._run())
        try:
            yield
            self._is_stopped = True
            await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        intended = time.perf_counter()
        async with asyncio.TaskGroup() as reads:
            while not self._is_stopped:
                reads.create_task(self._read(int(intended * 1e9)))
                intended += self._every_seconds
                await asyncio.sleep(intended - time.perf_counter())

    async def _read(self, intended_ns: int) -> None:
        try:
            await read(self._client, self._hit_id)
        except ClientError as error:
            self.errors[f"reading: {error}"] += 1
        else:
            self.latency.record(time.perf_counter_ns() - intended_ns)
