"""The intake: natural batching. While one hit batch is on its way to Redis, the hits that arrive make up the next one.

    requests ──add──▶ [waiting batch, …] ──one at a time──▶ stream.append ──▶ one answer for all of its requests

An idle API sends each hit at once; a busy one sends as many together as arrived during one round trip: no timer, no
size to tune. The requests of a batch learn what became of it as listeners that are called, which spares each of them a
task. The answer is a value, since a listener has no coroutine in which an exception could be raised.

A batch is tried again while that may help and its time budget lasts: accept counts it once, however often it arrives.
When it is given up, those that queued behind it are refused at once, so nobody waits for two outages in a row; the
next hit to arrive tries afresh. The intake knows no HTTP, and of Redis only `append`.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import count, product
from typing import Protocol

from hitcounter.backoff import backoff_seconds
from hitcounter.codec import HitBatch, build_batch
from hitcounter.entries import Durability
from hitcounter.errors import DurabilityUnavailable, Outcome, StreamUnavailable
from hitcounter.hits import BATCH_MAX_HITS, Hit
from hitcounter.logs import get_logger

from hitcounter_api.metrics import ApiMetrics

log = get_logger()


class HitSink(Protocol):
    """What the intake needs of the stream."""

    async def append(self, batch: HitBatch, *, timeout_seconds: float, durability: Durability) -> None:
        """Add the batch as one entry, once, however often it is called for the same batch."""


class RefusalReason(StrEnum):
    """Why hits were not acknowledged."""

    FULL = "full"
    STREAM = "stream"
    DRAINING = "draining"
    DURABILITY = "durability"
    """The client asked for more than this Redis can promise."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Hits that were not acknowledged, and what their sender should know.

    Attributes:
        cause: what only the log may say, since it may name hosts and users.
    """

    reason: RefusalReason
    detail: str
    outcome: Outcome = Outcome.REFUSED
    retry_after_seconds: float = 1.0
    cause: str = ""


Listener = Callable[["Refusal | None"], None]
"""Told once what became of a hit: None when it is in Redis, else why it was not acknowledged."""


class WaitingBatch:
    """Hits that will go into one entry."""

    __slots__ = ("hits", "listeners", "opened_at")

    def __init__(self, opened_at: float) -> None:
        self.hits: list[Hit] = []
        self.listeners: list[Listener] = []
        self.opened_at = opened_at


class Intake:
    """The hits of one process on their way to Redis. One instance, one event loop; `drain` it before the loop ends."""

    def __init__(
        self,
        stream: HitSink,
        metrics: ApiMetrics,
        *,
        producer: bytes,
        limit: int,
        budget_seconds: float,
        durability: Durability = Durability.MEMORY,
    ) -> None:
        """Build an intake.

        Args:
            stream: takes the batches.
            metrics: counted once a batch.
            producer: names this process life: 12 random bytes, never used again.
            limit: hits that may wait behind the batch in flight.
            budget_seconds: how long one batch is tried.
            durability: what each batch has survived when it is acknowledged.
        """
        self._stream = stream
        self._metrics = metrics
        self._producer = producer
        self._limit = limit
        self._budget_seconds = budget_seconds
        self._durability = durability
        self._sequence = 0
        self._waiting_hits = 0
        self._is_full = False
        """Hits were refused since the last batch left: said once, not for each of them."""
        self._waiting: deque[WaitingBatch] = deque()
        self._flight: asyncio.Task[None] | None = None
        self._is_draining = False
        metrics.waiting_hits.labels(durability).set_function(lambda: self._waiting_hits)
        for reason, outcome in product(RefusalReason, Outcome):
            metrics.refused_hits.labels(reason, outcome)  # there from the start: no rate is seen of what begins above 0

    def add(self, hit: Hit, listener: Listener) -> None:
        """Queue one hit and have the listener told, now or later, what became of it."""
        self._queue((hit,), listener)

    def add_all(self, hits: Sequence[Hit]) -> asyncio.Future[Refusal | None]:
        """Queue 1 to 10,000 hits, acknowledged all or none since they share one entry; return the answer to await."""
        answer: asyncio.Future[Refusal | None] = asyncio.get_running_loop().create_future()

        def tell(refusal: Refusal | None) -> None:
            if not answer.done():  # its request was cancelled
                answer.set_result(refusal)

        self._queue(hits, tell)
        return answer

    async def drain(self) -> None:
        """Refuse what comes from now on, and wait until all that came before has its answer."""
        self._is_draining = True
        if self._flight is not None:
            await self._flight

    def _queue(self, hits: Sequence[Hit], listener: Listener) -> None:
        batch = self._find_room(len(hits))
        if batch is None:
            listener(self._refuse(len(hits)))
            return
        batch.hits.extend(hits)
        batch.listeners.append(listener)

    def _find_room(self, hits: int) -> WaitingBatch | None:
        """Return the batch that takes so many hits together, None if they must be refused."""
        if self._is_draining or self._waiting_hits + hits > self._limit:
            return None
        self._waiting_hits += hits
        if self._waiting and len(self._waiting[-1].hits) + hits <= BATCH_MAX_HITS:
            return self._waiting[-1]
        return self._open_batch()

    def _open_batch(self) -> WaitingBatch:
        loop = asyncio.get_running_loop()
        batch = WaitingBatch(loop.time())
        self._waiting.append(batch)
        if self._flight is None:
            # In a context of its own: what it logs belongs to many requests, not to the one that came first.
            self._flight = loop.create_task(self._fly(), name="intake", context=contextvars.Context())
        return batch

    async def _fly(self) -> None:
        """Send batch after batch until none is waiting."""
        try:
            while self._waiting:
                batch = self._waiting.popleft()
                self._waiting_hits -= len(batch.hits)
                self._is_full = False
                refusal = await self._send(batch)
                self._answer(batch, refusal)
                if refusal is not None:
                    self._refuse_waiting(refusal)
        finally:
            self._flight = None

    async def _send(self, batch: WaitingBatch) -> Refusal | None:
        self._sequence += 1
        outcome = Outcome.REFUSED
        try:
            with self._metrics.append_seconds.time():
                hit_batch = build_batch(self._producer, self._sequence, batch.hits)
                outcome = Outcome.UNKNOWN
                return await self._append(hit_batch)
        except Exception:  # a fault of our own must not leave thousands of requests without an answer
            log.exception("a batch of hits failed", hits=len(batch.hits))
            return Refusal(RefusalReason.STREAM, "the hits could not be handed over", outcome)

    async def _append(self, batch: HitBatch) -> Refusal | None:
        """Append the batch, again and again while that may help and the budget lasts."""
        now = asyncio.get_running_loop().time
        deadline = now() + self._budget_seconds
        outcome = Outcome.REFUSED
        for attempt in count():
            try:
                # Half of the budget at most: an answer that got lost leaves time to ask again on another connection.
                await self._stream.append(
                    batch,
                    timeout_seconds=min(deadline - now(), self._budget_seconds / 2),
                    durability=self._durability,
                )
            except DurabilityUnavailable as error:
                # Said of this attempt only: where an earlier one may have had its effect, that is what counts.
                reason = RefusalReason.DURABILITY if outcome is Outcome.REFUSED else RefusalReason.STREAM
                return Refusal(reason, str(error), outcome)
            except StreamUnavailable as error:
                self._metrics.append_failures.inc()
                if error.outcome is Outcome.UNKNOWN:
                    outcome = Outcome.UNKNOWN  # and remains so: what a later attempt meets says nothing of this one
                pause = backoff_seconds(attempt, first_seconds=0.02, most_seconds=0.2)
                least_seconds = self._budget_seconds / 10  # less than that, and a healthy Redis would seem doubtful
                if not error.is_worth_retrying or now() + pause + least_seconds > deadline:
                    return Refusal(RefusalReason.STREAM, error.summary, outcome, error.retry_after_seconds, error.cause)
                await asyncio.sleep(pause)
            else:
                return None
        raise AssertionError("count() has no end")

    def _answer(self, batch: WaitingBatch, refusal: Refusal | None) -> None:
        hits = len(batch.hits)
        if refusal is None:
            self._metrics.accepted_hits.inc(hits)
            self._metrics.entry_hits.observe(hits)
        else:
            self._count_refusal(refusal, hits)
            log.warning("hits were not acknowledged", hits=hits, outcome=str(refusal.outcome), reason=refusal.detail)
        self._metrics.track_seconds.observe(asyncio.get_running_loop().time() - batch.opened_at)
        for listener in batch.listeners:
            try:
                listener(refusal)
            except Exception:  # one connection must not keep the others from their answers
                log.exception("an answer could not be written")

    def _refuse_waiting(self, cause: Refusal) -> None:
        """Refuse all that queued behind a batch that was given up: none of it was sent."""
        refusal = Refusal(cause.reason, cause.detail, Outcome.REFUSED, cause.retry_after_seconds)
        while self._waiting:
            self._answer(self._waiting.popleft(), refusal)
        self._waiting_hits = 0

    def _refuse(self, hits: int) -> Refusal:
        """Return what to answer to hits that were not even queued."""
        if self._is_draining:
            refusal = Refusal(RefusalReason.DRAINING, "this server is about to stop")
        else:
            refusal = Refusal(RefusalReason.FULL, f"the intake is full: {self._waiting_hits:,} hits wait for Redis")
            if not self._is_full:
                self._is_full = True
                log.warning("the intake is full", waiting_hits=self._waiting_hits)
        self._count_refusal(refusal, hits)
        return refusal

    def _count_refusal(self, refusal: Refusal, hits: int) -> None:
        self._metrics.refused_hits.labels(refusal.reason, refusal.outcome).inc(hits)


class Intakes:
    """The intakes of one process, one for each durability: a hit that waits for the disk holds up no other."""

    def __init__(self, intakes: Mapping[Durability, Intake], default: Durability) -> None:
        self._intakes = intakes
        self._default = default

    def choose(self, asked: Durability | None) -> Intake:
        """Return the intake of the durability that the client asked for, or of the default."""
        return self._intakes[self._default if asked is None else asked]

    async def drain(self) -> None:
        """Drain all of them."""
        await asyncio.gather(*(intake.drain() for intake in self._intakes.values()))
