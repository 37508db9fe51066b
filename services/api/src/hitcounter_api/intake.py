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
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import count, product
from typing import Final, Protocol

from hitcounter.backoff import backoff_seconds
from hitcounter.codec import HitBatch, build_batch
from hitcounter.entries import Durability
from hitcounter.errors import DurabilityUnavailable, Outcome, StreamUnavailable
from hitcounter.hits import BATCH_MAX_HITS, ID_MAX_BYTES, KEY_MAX_BYTES, Hit
from hitcounter.logs import get_logger

from hitcounter_api.metrics import ApiMetrics

ENTRY_MAX_BYTES: Final = 1024 * 1024
"""Requests share an entry up to this size. One request alone may bring as much, and then has an entry of its own."""
_HIT_BYTES: Final = 14
"""What a hit takes in an entry besides its id and its key, at most: tag and length of both, time, weight."""
_HIT_MAX_BYTES: Final = ID_MAX_BYTES + KEY_MAX_BYTES + _HIT_BYTES

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


_NOT_HANDED_OVER: Final = Refusal(RefusalReason.STREAM, "the hits could not be handed over", Outcome.UNKNOWN)

Listener = Callable[["Refusal | None"], None]
"""Told once what became of a hit: None when it is in Redis, else why it was not acknowledged."""


class WaitingBatch:
    """Hits that will go into one entry."""

    __slots__ = ("_measured_bytes", "_measured_hits", "_sure_hits", "hits", "listeners", "opened_at")

    def __init__(self, opened_at: float) -> None:
        self.hits: list[Hit] = []
        self.listeners: list[Listener] = []
        self.opened_at = opened_at
        self._measured_hits = 0
        self._measured_bytes = 0
        self._sure_hits = ENTRY_MAX_BYTES // _HIT_MAX_BYTES
        """So many hits fit, however long their ids are: to measure each as it comes would cost it two percent."""

    def takes(self, hits: Sequence[Hit]) -> bool:
        """Tell whether the entry has room for these hits, too."""
        number = len(self.hits) + len(hits)
        if number <= self._sure_hits:
            return True
        self._measured_bytes += _measure(self.hits[self._measured_hits :])
        self._measured_hits = len(self.hits)
        left_bytes = ENTRY_MAX_BYTES - self._measured_bytes
        self._sure_hits = min(BATCH_MAX_HITS, self._measured_hits + max(0, left_bytes) // _HIT_MAX_BYTES)
        return number <= BATCH_MAX_HITS and _measure(hits) <= left_bytes


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
            limit: hits that may wait behind the batch in flight. A quarter of it is kept for requests of a single hit,
                as far as that leaves room for the largest batch, so that batches cannot starve them.
            budget_seconds: how long one batch is tried.
            durability: what each batch has survived when it is acknowledged.
        """
        self._stream = stream
        self._metrics = metrics
        self._producer = producer
        self._limit = limit
        self._limit_of_many = min(limit, max(limit * 3 // 4, BATCH_MAX_HITS))
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
        while self._flight is not None:
            await asyncio.wait([self._flight])

    def _queue(self, hits: Sequence[Hit], listener: Listener) -> None:
        batch = self._find_room(hits)
        if batch is None:
            listener(self._refuse(len(hits)))
            return
        batch.hits.extend(hits)
        batch.listeners.append(listener)
        if self._flight is None:
            self._begin_flight()

    def _find_room(self, hits: Sequence[Hit]) -> WaitingBatch | None:
        """Return the batch that takes the hits together, None if they must be refused."""
        number = len(hits)
        waiting_hits = self._waiting_hits + number
        if self._is_draining or waiting_hits > (self._limit if number == 1 else self._limit_of_many):
            return None
        self._waiting_hits = waiting_hits
        if self._waiting and self._waiting[-1].takes(hits):
            return self._waiting[-1]
        batch = WaitingBatch(asyncio.get_running_loop().time())
        self._waiting.append(batch)
        return batch

    def _begin_flight(self) -> None:
        # In a context of its own: what it logs belongs to many requests, not to the one that came first.
        self._flight = asyncio.get_running_loop().create_task(self._fly(), name="intake", context=contextvars.Context())
        self._flight.add_done_callback(self._end_flight)

    def _end_flight(self, flight: asyncio.Task[None]) -> None:
        """Note that it ended; begin another where something waits: for what it failed of, too, nobody waits in vain."""
        self._flight = None
        if flight.cancelled():
            return
        if self._waiting:
            self._begin_flight()
        if (error := flight.exception()) is not None:
            log.error("the intake failed, and goes on", exc_info=error)

    async def _fly(self) -> None:
        """Send batch after batch until none is waiting."""
        while self._waiting:
            batch = self._waiting.popleft()
            self._waiting_hits -= len(batch.hits)
            self._is_full = False
            refusal: Refusal | None = _NOT_HANDED_OVER
            try:
                refusal = await self._send(batch)
            finally:
                self._answer(batch, refusal)
            if refusal is not None:
                self._refuse_waiting(refusal)

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
            return replace(_NOT_HANDED_OVER, outcome=outcome)

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
        """Tell all listeners, whatever else may fail."""
        for listener in batch.listeners:
            try:
                listener(refusal)
            except Exception:  # one connection must not keep the others from their answers
                log.exception("an answer could not be written")
        self._note_answer(batch, refusal)

    def _note_answer(self, batch: WaitingBatch, refusal: Refusal | None) -> None:
        hits = len(batch.hits)
        if refusal is None:
            self._metrics.accepted_hits.inc(hits)
            self._metrics.entry_hits.observe(hits)
        else:
            self._count_refusal(refusal, hits)
            reason = f"{refusal.detail} ({refusal.cause})" if refusal.cause else refusal.detail
            log.warning("hits were not acknowledged", hits=hits, outcome=str(refusal.outcome), reason=reason)
        self._metrics.track_seconds.observe(asyncio.get_running_loop().time() - batch.opened_at)

    def _refuse_waiting(self, cause: Refusal) -> None:
        """Refuse all that queued behind a batch that was given up: none of it was sent."""
        refusal = replace(cause, outcome=Outcome.REFUSED)
        while self._waiting:
            batch = self._waiting.popleft()
            self._waiting_hits -= len(batch.hits)
            self._answer(batch, refusal)

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


def _measure(hits: Sequence[Hit]) -> int:
    """Return how many bytes the hits take in an entry, at most."""
    texts = "".join([text for hit in hits for text in (hit.id, hit.key)])
    return len(texts.encode()) + _HIT_BYTES * len(hits)


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
