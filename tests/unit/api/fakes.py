"""A stream that fails on demand, and the queue as a watch would see it. Only unit and contract tests have fakes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from hitcounter.codec import HitBatch
from hitcounter.entries import Durability
from hitcounter.errors import HitcounterError, IndexUnavailable, Outcome, StreamUnavailable
from hitcounter.ledger import Ledger, StreamMemory, StreamStatus
from hitcounter_api.counts import Counts, Steps
from hitcounter_api.intake import Intake
from hitcounter_api.metrics import ApiMetrics, create_metrics
from prometheus_client import CollectorRegistry

PRODUCER = bytes(range(12))
NOW_MS = 1_795_507_200_000  # 2026-11-24T08:00:00Z

REFUSED = StreamUnavailable("Redis does not answer", outcome=Outcome.REFUSED)
UNKNOWN = StreamUnavailable("the answer got lost", outcome=Outcome.UNKNOWN)
FULL = StreamUnavailable("Redis is full", outcome=Outcome.REFUSED, is_worth_retrying=False, retry_after_seconds=5)

Step = StreamUnavailable | Exception | Awaitable[None]


@dataclass
class FakeStream:
    """Takes batches. Each attempt first meets the next of `steps`: an error is raised, anything else awaited."""

    steps: deque[Step] = field(default_factory=deque)
    attempts: list[HitBatch] = field(default_factory=list)
    accepted: list[HitBatch] = field(default_factory=list)
    durabilities: list[Durability] = field(default_factory=list)
    """What was asked for, attempt by attempt."""
    attempted: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by the first attempt."""
    trouble: HitcounterError | None = None
    """Raised by every call while it is set."""
    status_now: StreamStatus = field(default_factory=lambda: build_status())
    memory_now: StreamMemory = field(default_factory=lambda: StreamMemory(used_bytes=10, capacity_bytes=100))

    async def append(self, batch: HitBatch, *, timeout_seconds: float, durability: Durability) -> None:
        assert timeout_seconds > 0
        self.durabilities.append(durability)
        self.attempts.append(batch)
        self.attempted.set()
        if self.trouble is not None:
            raise self.trouble
        if self.steps:
            step = self.steps.popleft()
            if isinstance(step, Exception):
                raise step
            await step
        else:
            await asyncio.sleep(0)  # a real stream never answers in the same turn of the loop
        self.accepted.append(batch)

    async def ping(self) -> None:
        if self.trouble is not None:
            raise self.trouble

    async def status(self) -> StreamStatus:
        if self.trouble is not None:
            raise self.trouble
        return self.status_now

    async def memory(self) -> StreamMemory:
        if self.trouble is not None:
            raise self.trouble
        return self.memory_now

    @property
    def accepted_ids(self) -> list[list[str]]:
        return [list(batch.ids) for batch in self.accepted]


@dataclass
class FakeReader:
    """Answers counts, or the error that is set."""

    counts: Counts = (5, 4, 3, 2, 1)
    trouble: IndexUnavailable | None = None
    gate: Callable[[], Awaitable[None]] | None = None
    asked: list[tuple[str, int]] = field(default_factory=list)

    async def read(self, id_: str, now_ms: int) -> Counts:
        self.asked.append((id_, now_ms))
        if self.gate is not None:
            await self.gate()
        if self.trouble is not None:
            raise self.trouble
        return self.counts

    async def read_history(self, id_: str, now_ms: int, steps: Steps) -> Counts:
        await self.read(id_, now_ms)
        return self.history(steps)

    def history(self, steps: Steps) -> Counts:
        """Return what it answers: each step has other hits."""
        return tuple(range(steps.number))


def build_status(*, accepted: int = 0, indexed: int = 0, as_of_ms: int | None = None) -> StreamStatus:
    return StreamStatus(
        Ledger(accepted=accepted, indexed=indexed), entries=0, oldest_ms=None, as_of_ms=as_of_ms, now_ms=NOW_MS
    )


def build_metrics() -> tuple[ApiMetrics, CollectorRegistry]:
    registry = CollectorRegistry()
    return create_metrics(registry), registry


def build_intake(stream: FakeStream, *, limit: int = 20_000, budget_seconds: float = 0.3) -> Intake:
    metrics, _ = build_metrics()
    return Intake(stream, metrics, producer=PRODUCER, limit=limit, budget_seconds=budget_seconds)
