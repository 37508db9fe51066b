"""Readers that hold every answer against the client's record: what the as-of promises is there, and never too much."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import orjson
from hitcounter_benchmark.client import Client, ClientError
from hitcounter_benchmark.connection import Answer
from hitcounter_benchmark.target import Target, counts_path

from tests.chaos.record import IdRecord, Record

_READERS_OF_EACH_API: Final = 4
_PAUSE_SECONDS: Final = 0.02
_MOST_COMPLAINTS: Final = 20


class AsOfReaders:
    """Read the counts of random ids while hits are sent. In one event loop with the client, whose record it uses.

    Attributes:
        answers: how many were fresh, stale, refused or missing.
        complaints: answers that were not true, the first ones.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        record: Record,
        seed: int,
        *,
        of_each_api: int = _READERS_OF_EACH_API,
        pause_seconds: float = _PAUSE_SECONDS,
    ) -> None:
        self.answers: Counter[str] = Counter()
        self.complaints: list[str] = []
        self._targets = targets
        self._record = record
        self._draw = random.Random(seed)
        self._of_each_api = of_each_api
        self._pause_seconds = pause_seconds

    async def run(self) -> None:
        """Read until cancelled."""
        async with asyncio.TaskGroup() as group:
            for target in self._targets:
                for _ in range(self._of_each_api):
                    group.create_task(self._read_on(target))

    async def _read_on(self, target: Target) -> None:
        async with Client(target, connections=1) as client:
            while True:
                await asyncio.sleep(self._pause_seconds)
                if self._record.ids:
                    await self._read(client, self._draw.choice(list(self._record.ids)))

    async def _read(self, client: Client, id_: str) -> None:
        try:
            answer = await client.ask(client.target.get(counts_path(id_)))
        except ClientError:
            self.answers["no answer"] += 1
            await asyncio.sleep(0.1)
            return
        if answer.status != 200:
            self.answers[str(answer.status)] += 1
            if answer.status != 503:
                self._complain(f"{id_!r} was answered {answer.status} {answer.body!r}")
            return
        self.answers["stale" if "hitcounter-stale" in answer.headers else "fresh"] += 1
        if (fault := find_fault(answer, self._record.ids[id_])) is not None:
            self._complain(f"{id_!r}: {fault}")

    def _complain(self, complaint: str) -> None:
        if len(self.complaints) < _MOST_COMPLAINTS:
            self.complaints.append(f"{datetime.now():%H:%M:%S}: {complaint}")


def find_fault(answer: Answer, record: IdRecord) -> str | None:
    """Tell what is wrong with counts that were read, given what is known of the id by then. Pure."""
    counts = {window["reference"]: window["count"] for window in orjson.loads(answer.body)["counts"]}
    counted = counts["3 days ago"]
    if counted > record.sent:
        return f"counts {counted}, only {record.sent} hits were sent"
    as_of = answer.headers.get("hitcounter-as-of")
    if as_of is None:
        return None
    due = record.acknowledged_before(round(datetime.fromisoformat(as_of).timestamp() * 1000))
    if counted < due:
        return f"counts {counted}, but {due} hits had been acknowledged before its as-of {as_of}"
    return None
