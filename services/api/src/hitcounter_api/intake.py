"""The intake: batches hits on their way to Redis. While one batch is being sent, arriving hits form the next one.

    requests ──add──▶ [waiting batch, …] ──one at a time──▶ stream.append ──▶ one answer for all of its requests

An idle API sends each hit at once. A busy one sends together what arrived during one round trip, so there is no timer
and no batch size to tune. Each request registers a listener, which is called with the result of its batch; this avoids
a task per request.

A batch is retried while a retry may help and its time budget lasts. The accept script is idempotent, so retries count
it once. When a batch is given up, all batches behind it are refused at once, so that no request waits for two failures
in a row; the next hit starts a new attempt. The intake does not use HTTP, and uses only `append` of the stream.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count, product
from typing import Final, Protocol

from hitcounter.backoff import backoff_seconds
from hitcounter.codec import HitBatch, build_batch
from hitcounter.entries import Durability
from hitcounter.errors import DurabilityUnavailable, HitcounterError, Outcome, StreamUnavailable, TransientError
from hitcounter.hits import BATCH_MAX_HITS, ID_MAX_BYTES, KEY_MAX_BYTES, Hit
from hitcounter.logs import get_logger

from hitcounter_api.listeners import Listener, Observer, open_answer
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


class IntakeFull(TransientError):
    """Too many hits wait already: these were refused before they were queued."""


_NOT_HANDED_OVER: Final = "the hits could not be handed over"


def classify(error: HitcounterError) -> tuple[str, Outcome]:
    """Return the reason for the metric, and whether the hits may have been accepted."""
    match error:
        case StreamUnavailable():
            return "stream", error.outcome
        case DurabilityUnavailable():
            return "durability", Outcome.REFUSED
        case _:
            return "full", Outcome.REFUSED


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
        observer: Observer | None = None,
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
            observer: follows batches, if tracing is enabled.
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
        self._sender: asyncio.Task[None] | None = None
        self._observer = observer
        metrics.waiting_hits.labels(durability).set_function(lambda: self._waiting_hits)
        for reason, outcome in product(("full", "stream", "durability"), Outcome):
            metrics.refused_hits.labels(reason, outcome)  # from the start: rate() misses the first increase otherwise

    def add(self, hit: Hit, listener: Listener) -> None:
        """Queue one hit. The listener is called with the result, now or later."""
        self._queue((hit,), listener)

    def add_all(self, hits: Sequence[Hit]) -> asyncio.Future[HitcounterError | None]:
        """Queue 1 to 10,000 hits in one entry, so that all or none are acknowledged; return a future of the result."""
        answer, listener = open_answer()
        if self._observer is not None:
            listener = self._observer.observe_hits(listener)
        self._queue(hits, listener)
        return answer

    async def drain(self) -> None:
        """Wait until all hits have their result. Call it when no more hits can arrive: all connections are closed."""
        while self._sender is not None:
            await asyncio.wait([self._sender])

    def _queue(self, hits: Sequence[Hit], listener: Listener) -> None:
        batch = self._find_room(hits)
        if batch is None:
            listener(self._refuse(len(hits)))
            return
        batch.hits.extend(hits)
        batch.listeners.append(listener)
        if self._sender is None:
            self._start_sender()

    def _find_room(self, hits: Sequence[Hit]) -> WaitingBatch | None:
        """Return the batch with room for these hits; None if they must be refused."""
        number = len(hits)
        waiting_hits = self._waiting_hits + number
        if waiting_hits > (self._limit if number == 1 else self._limit_of_many):
            return None
        self._waiting_hits = waiting_hits
        if self._waiting and self._waiting[-1].takes(hits):
            return self._waiting[-1]
        batch = WaitingBatch(asyncio.get_running_loop().time())
        self._waiting.append(batch)
        return batch

    def _start_sender(self) -> None:
        # In its own context: its log lines belong to many requests, not to the first one.
        self._sender = asyncio.get_running_loop().create_task(
            self._send_waiting(), name="intake", context=contextvars.Context()
        )
        self._sender.add_done_callback(self._end_sender)

    def _end_sender(self, sender: asyncio.Task[None]) -> None:
        """Start the next sender if hits are waiting, even if this one failed, so that no request waits for ever."""
        self._sender = None
        if sender.cancelled():
            return
        if self._waiting:
            self._start_sender()
        if (error := sender.exception()) is not None:
            log.error("the intake failed, and continues", exc_info=error)

    async def _send_waiting(self) -> None:
        """Send batch after batch until none is waiting."""
        while self._waiting:
            batch = self._waiting.popleft()
            self._waiting_hits -= len(batch.hits)
            self._is_full = False
            error: HitcounterError | None = StreamUnavailable(_NOT_HANDED_OVER)
            try:
                error = await self._send(batch)
            finally:
                self._answer(batch, error)
            if error is not None:
                self._refuse_waiting(error)

    async def _send(self, batch: WaitingBatch) -> HitcounterError | None:
        if self._observer is None:
            return await self._send_hits(batch.hits, "")
        send = functools.partial(self._send_hits, batch.hits)
        return await self._observer.send(batch.listeners, len(batch.hits), send)

    async def _send_hits(self, hits: Sequence[Hit], traceparent: str) -> HitcounterError | None:
        self._sequence += 1
        outcome = Outcome.REFUSED
        try:
            with self._metrics.append_seconds.time():
                batch = build_batch(self._producer, self._sequence, hits)
                if traceparent:
                    batch = replace(batch, traceparent=traceparent)
                outcome = Outcome.UNKNOWN
                return await self._append(batch)
        except Exception:  # a bug must not leave thousands of requests without an answer
            log.exception("a batch of hits failed", hits=len(hits))
            return StreamUnavailable(_NOT_HANDED_OVER, outcome=outcome)

    async def _append(self, batch: HitBatch) -> HitcounterError | None:
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
                return error if outcome is Outcome.REFUSED else StreamUnavailable(str(error), outcome=outcome)
            except StreamUnavailable as error:
                self._metrics.append_failures.inc()
                if error.outcome is Outcome.UNKNOWN:
                    outcome = Outcome.UNKNOWN  # for good: a later attempt says nothing about this one
                pause = backoff_seconds(attempt, first_seconds=0.02, max_seconds=0.2)
                least_seconds = self._budget_seconds / 10  # with less, even a healthy Redis could time out
                if not error.is_worth_retrying or now() + pause + least_seconds > deadline:
                    return _with_outcome(error, outcome)
                await asyncio.sleep(pause)
            else:
                return None
        raise AssertionError("count() has no end")

    def _answer(self, batch: WaitingBatch, error: HitcounterError | None) -> None:
        """Call all listeners, even if one of them fails."""
        for listener in batch.listeners:
            try:
                listener(error)
            except Exception:  # a failure of one connection must not affect the others
                log.exception("an answer could not be written")
        self._note_answer(batch, error)

    def _note_answer(self, batch: WaitingBatch, error: HitcounterError | None) -> None:
        hits = len(batch.hits)
        if error is None:
            self._metrics.accepted_hits.inc(hits)
            self._metrics.entry_hits.observe(hits)
        else:
            outcome = self._count_refusal(error, hits)
            log.warning("hits were not acknowledged", hits=hits, outcome=str(outcome), reason=str(error))
        self._metrics.track_seconds.observe(asyncio.get_running_loop().time() - batch.opened_at)

    def _refuse_waiting(self, error: HitcounterError) -> None:
        """Refuse all batches behind one that was given up; none of them was sent."""
        if isinstance(error, StreamUnavailable):
            error = _with_outcome(error, Outcome.REFUSED)
        while self._waiting:
            batch = self._waiting.popleft()
            self._waiting_hits -= len(batch.hits)
            self._answer(batch, error)

    def _refuse(self, hits: int) -> IntakeFull:
        """Return the error for hits that were not queued."""
        error = IntakeFull(f"the intake is full: {self._waiting_hits:,} hits wait for Redis")
        if not self._is_full:
            self._is_full = True
            log.warning("the intake is full", waiting_hits=self._waiting_hits)
        self._count_refusal(error, hits)
        return error

    def _count_refusal(self, error: HitcounterError, hits: int) -> Outcome:
        reason, outcome = classify(error)
        self._metrics.refused_hits.labels(reason, outcome).inc(hits)
        return outcome


def _with_outcome(error: StreamUnavailable, outcome: Outcome) -> StreamUnavailable:
    """Return the same error with this outcome. It is not raised again: many requests get it, at different times."""
    return StreamUnavailable(
        error.summary, cause=error.cause, outcome=outcome, retry_after_seconds=error.retry_after_seconds
    )


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
