"""The intake: batches hits on their way to Redis. While one batch is being sent, arriving hits form the next one.

    requests ──add──▶ [waiting batch, …] ──one at a time──▶ stream.append ──▶ one answer for all of its requests

An idle API sends each hit at once. A busy one sends together what arrived during one round trip, so there is no timer
and no batch size to tune. Each request registers a listener, which is called with the result of its batch; this avoids
a task per request. The result is a value and not an exception, because a listener has no coroutine to raise it in.

A batch is retried while a retry may help and its time budget lasts. The accept script is idempotent, so retries count
it once. When a batch is given up, all batches behind it are refused at once, so that no request waits for two failures
in a row; the next hit starts a new attempt. The intake does not use HTTP, and uses only `append` of the stream.
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
"""Maximum size of an entry with hits of several requests. One request may be as large, and then has its own entry."""
_HIT_BYTES: Final = 14
"""Maximum size of a hit in an entry, without id and key: tag and length of both, time, weight."""
_HIT_MAX_BYTES: Final = ID_MAX_BYTES + KEY_MAX_BYTES + _HIT_BYTES

log = get_logger()


class HitSink(Protocol):
    """What the intake needs from the stream."""

    async def append(self, batch: HitBatch, *, timeout_seconds: float, durability: Durability) -> None:
        """Add the batch as one entry. Idempotent: repeated calls for one batch add it once."""


class RefusalReason(StrEnum):
    """Why hits were not acknowledged."""

    FULL = "full"
    STREAM = "stream"
    DRAINING = "draining"
    DURABILITY = "durability"
    """The client asked for a durability that this Redis does not support."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why hits were not acknowledged, and what the client should know.

    Attributes:
        cause: for the log only, because it may contain hosts and users.
    """

    reason: RefusalReason
    detail: str
    outcome: Outcome = Outcome.REFUSED
    retry_after_seconds: float = 1.0
    cause: str = ""


_NOT_HANDED_OVER: Final = Refusal(RefusalReason.STREAM, "the hits could not be handed over", Outcome.UNKNOWN)

Listener = Callable[["Refusal | None"], None]
"""Called once with the result of a hit: None if it is in Redis, else why it was not acknowledged."""


class WaitingBatch:
    """Hits that will be sent as one entry."""

    __slots__ = ("_measured_bytes", "_measured_hits", "_sure_hits", "hits", "listeners", "opened_at")

    def __init__(self, opened_at: float) -> None:
        self.hits: list[Hit] = []
        self.listeners: list[Listener] = []
        self.opened_at = opened_at
        self._measured_hits = 0
        self._measured_bytes = 0
        self._sure_hits = ENTRY_MAX_BYTES // _HIT_MAX_BYTES
        """This many hits fit, no matter how long their ids are. Measuring each hit would cost two percent of its time.
        """

    def takes(self, hits: Sequence[Hit]) -> bool:
        """Return whether the entry has room for these hits."""
        number = len(self.hits) + len(hits)
        if number <= self._sure_hits:
            return True
        self._measured_bytes += _measure(self.hits[self._measured_hits :])
        self._measured_hits = len(self.hits)
        left_bytes = ENTRY_MAX_BYTES - self._measured_bytes
        self._sure_hits = min(BATCH_MAX_HITS, self._measured_hits + max(0, left_bytes) // _HIT_MAX_BYTES)
        return number <= BATCH_MAX_HITS and _measure(hits) <= left_bytes


class Intake:
    """Sends the hits of one process to Redis. One event loop per instance; call `drain` before the loop ends."""

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
        """Create an intake.

        Args:
            stream: where batches are sent.
            metrics: updated once per batch.
            producer: identifies this process: 12 random bytes, never used again.
            limit: maximum number of hits that wait behind the batch in flight. A quarter of it (less if the largest
                batch would not fit) is reserved for requests with a single hit, so that batches cannot starve them.
            budget_seconds: time limit for one batch, including retries.
            durability: the durability of each batch when it is acknowledged.
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
        """Hits were refused since the last batch was sent. This is logged once, not for each hit."""
        self._waiting: deque[WaitingBatch] = deque()
        self._flight: asyncio.Task[None] | None = None
        self._is_draining = False
        metrics.waiting_hits.labels(durability).set_function(lambda: self._waiting_hits)
        for reason, outcome in product(RefusalReason, Outcome):
            metrics.refused_hits.labels(reason, outcome)  # from the start: rate() misses the first increase otherwise

    def add(self, hit: Hit, listener: Listener) -> None:
        """Queue one hit. The listener is called with the result, now or later."""
        self._queue((hit,), listener)

    def add_all(self, hits: Sequence[Hit]) -> asyncio.Future[Refusal | None]:
        """Queue 1 to 10,000 hits in one entry, so that all or none are acknowledged; return a future of the result."""
        answer: asyncio.Future[Refusal | None] = asyncio.get_running_loop().create_future()

        def tell(refusal: Refusal | None) -> None:
            if not answer.done():  # its request was cancelled
                answer.set_result(refusal)

        self._queue(hits, tell)
        return answer

    async def drain(self) -> None:
        """Refuse new hits from now on, and wait until all earlier hits have their result."""
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
        """Return the batch with room for these hits; None if they must be refused."""
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
        # In its own context: its log lines belong to many requests, not to the first one.
        self._flight = asyncio.get_running_loop().create_task(self._fly(), name="intake", context=contextvars.Context())
        self._flight.add_done_callback(self._end_flight)

    def _end_flight(self, flight: asyncio.Task[None]) -> None:
        """Start the next flight if hits are waiting, even if this one failed, so that no request waits for ever."""
        self._flight = None
        if flight.cancelled():
            return
        if self._waiting:
            self._begin_flight()
        if (error := flight.exception()) is not None:
            log.error("the intake failed, and continues", exc_info=error)

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
        except Exception:  # a bug must not leave thousands of requests without an answer
            log.exception("a batch of hits failed", hits=len(batch.hits))
            return replace(_NOT_HANDED_OVER, outcome=outcome)

    async def _append(self, batch: HitBatch) -> Refusal | None:
        """Append the batch, with retries while they may help and the budget lasts."""
        now = asyncio.get_running_loop().time
        deadline = now() + self._budget_seconds
        outcome = Outcome.REFUSED
        for attempt in count():
            try:
                # Half of the budget at most: after a lost response there is time for a retry on a new connection.
                await self._stream.append(
                    batch,
                    timeout_seconds=min(deadline - now(), self._budget_seconds / 2),
                    durability=self._durability,
                )
            except DurabilityUnavailable as error:
                # This is about this attempt only. If an earlier attempt may have succeeded, the outcome is unknown.
                reason = RefusalReason.DURABILITY if outcome is Outcome.REFUSED else RefusalReason.STREAM
                return Refusal(reason, str(error), outcome)
            except StreamUnavailable as error:
                self._metrics.append_failures.inc()
                if error.outcome is Outcome.UNKNOWN:
                    outcome = Outcome.UNKNOWN  # for good: a later attempt says nothing about this one
                pause = backoff_seconds(attempt, first_seconds=0.02, most_seconds=0.2)
                least_seconds = self._budget_seconds / 10  # with less, even a healthy Redis could time out
                if not error.is_worth_retrying or now() + pause + least_seconds > deadline:
                    return Refusal(RefusalReason.STREAM, error.summary, outcome, error.retry_after_seconds, error.cause)
                await asyncio.sleep(pause)
            else:
                return None
        raise AssertionError("count() has no end")

    def _answer(self, batch: WaitingBatch, refusal: Refusal | None) -> None:
        """Call all listeners, even if one of them fails."""
        for listener in batch.listeners:
            try:
                listener(refusal)
            except Exception:  # a failure of one connection must not affect the others
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
        """Refuse all batches behind one that was given up; none of them was sent."""
        refusal = replace(cause, outcome=Outcome.REFUSED)
        while self._waiting:
            batch = self._waiting.popleft()
            self._waiting_hits -= len(batch.hits)
            self._answer(batch, refusal)

    def _refuse(self, hits: int) -> Refusal:
        """Return the refusal for hits that were not queued."""
        if self._is_draining:
            refusal = Refusal(RefusalReason.DRAINING, "this server is stopping")
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
    """Return the maximum size of the hits in an entry, in bytes."""
    texts = "".join([text for hit in hits for text in (hit.id, hit.key)])
    return len(texts.encode()) + _HIT_BYTES * len(hits)


class Intakes:
    """The intakes of one process, one per durability, so that hits that wait for the disk do not delay others."""

    def __init__(self, intakes: Mapping[Durability, Intake], default: Durability) -> None:
        self._intakes = intakes
        self._default = default

    def choose(self, asked: Durability | None) -> Intake:
        """Return the intake for the durability that the client asked for, or for the default."""
        return self._intakes[self._default if asked is None else asked]

    async def drain(self) -> None:
        """Drain all of them."""
        await asyncio.gather(*(intake.drain() for intake in self._intakes.values()))
