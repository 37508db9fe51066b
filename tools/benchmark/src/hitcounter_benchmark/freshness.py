"""Measures how soon an accepted hit is countable, with probe hits during the load, each with its own id.

A probe is countable when the as-of is later than it and a read shows it. The as-of is polled twenty times a second,
which costs almost nothing; as many reads would be a load that changes the result. Probes wait in a queue, the oldest
first, which is also the order of the as-of.
"""

import asyncio
import contextlib
import time
from collections import Counter, deque
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import orjson

from hitcounter_benchmark.client import Client, ClientError
from hitcounter_benchmark.histogram import Histogram
from hitcounter_benchmark.reading import now, read, read_status
from hitcounter_benchmark.tally import Outcome, classify

_POLL_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class _Probe:
    hit_id: str
    accepted_ns: int
    accepted_at: datetime


class Freshness:
    """Probes an API until told to stop.

    Args:
        client: Used by this object alone, two connections are enough.
        id_prefix: New for each run, so that no probe's id was ever counted before.
        every_seconds: Between two probe hits.
    """

    def __init__(self, client: Client, *, id_prefix: str, every_seconds: float) -> None:
        self.durations = Histogram()
        """From the acknowledgement of a probe to the answer that showed it, with an as-of that covers it."""
        self.errors: Counter[str] = Counter()
        self._client = client
        self._id_prefix = id_prefix
        self._every_seconds = every_seconds
        self._waiting: deque[_Probe] = deque()
        self._is_stopped = asyncio.Event()

    @property
    def missing(self) -> int:
        """Acknowledged probes that were never seen in a count."""
        return len(self._waiting)

    def stop(self) -> None:
        """Send no more probes; `run` goes on until those sent are countable."""
        self._is_stopped.set()

    async def run(self, settle_seconds: float) -> None:
        """Probe until stopped, then wait for the last ones, at most for the given time."""
        watching = asyncio.ensure_future(self._watch())
        try:
            await self._send_probes()
            await asyncio.wait({watching}, timeout=settle_seconds)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _send_probes(self) -> None:
        number = 0
        while not self._is_stopped.is_set():
            await self._send_probe(f"{self._id_prefix}-{number}")
            number += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every_seconds):
                    await self._is_stopped.wait()

    async def _send_probe(self, hit_id: str) -> None:
        request = self._client.target.post("/analytics", orjson.dumps({"id": hit_id}))
        try:
            answer = await self._client.ask(request)
        except ClientError as error:
            self.errors[str(error)] += 1
            return
        outcome, kind = classify(answer.status, answer.body)
        if outcome is Outcome.ACKNOWLEDGED:
            self._waiting.append(_Probe(hit_id, time.perf_counter_ns(), now()))
        else:
            self.errors[kind] += 1

    async def _watch(self) -> None:
        while self._waiting or not self._is_stopped.is_set():
            if not (self._waiting and await self._is_countable(self._waiting[0])):
                await asyncio.sleep(_POLL_SECONDS)
                continue
            self.durations.record(time.perf_counter_ns() - self._waiting.popleft().accepted_ns)

    async def _is_countable(self, probe: _Probe) -> bool:
        status = await read_status(self._client)
        if status is None or status.as_of is None or status.as_of <= probe.accepted_at:
            return False
        try:
            is_counted = (await read(self._client, probe.hit_id)).count > 0
        except ClientError as error:
            self.errors[f"reading: {error}"] += 1
            return False
        if not is_counted:
            self.errors["covered by the as-of, but not counted"] += 1
        return is_counted
