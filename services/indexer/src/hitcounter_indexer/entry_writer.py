"""Writes the documents of some entries, and settles each entry when all of its documents are done: one cycle.

What happens to a document that is not written depends on what refuses it (outcomes.py):

- Elasticsearch is down or overloaded: the cycle waits and retries, for as long as it takes. Its worker reads nothing
  meanwhile. This is the backpressure.
- The index refuses everything while other indices accept documents (a red, closed or read-only index): the circuit
  breaker of that index opens (breaker.py), and its documents are skipped. All others are written and settled. An entry
  with a skipped document is deferred: it stays pending until the breaker closes.
- The index accepts other documents, but not this one: its entry stays pending and is delivered again when it is
  reclaimed. After too many deliveries the document is rejected and becomes a dead letter, but only if the same request
  shows that the index works: the index accepted another document of that request.
- No other document is accepted that could be compared with it: the cycle retries for a while, then leaves the entries
  pending.
- Elasticsearch pushes back or does not respond, and all remaining documents belong to one index: the cycle leaves the
  entries pending after the same while. Otherwise one index that never responds could block every worker. If
  Elasticsearch is down as a whole, a worker has the entries of at most two cycles pending: it reclaims them before it
  reads new ones.

Decisions 9 and 30 have the reasons.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from hitcounter.backoff import backoff_seconds
from hitcounter.codec import decode
from hitcounter.entries import Entry, Settlement
from hitcounter.errors import EntryTooNew, IndexUnavailable, UndecodableEntry
from hitcounter.ledger import IndexerWork
from hitcounter.logs import get_logger
from hitcounter.stream import StreamConsumer

from hitcounter_indexer.batching import BulkSize, OpenAction, Work
from hitcounter_indexer.breaker import CircuitBreakers
from hitcounter_indexer.conditions import ELASTICSEARCH, Conditions, retry_redis
from hitcounter_indexer.documents import Action, build_actions, build_documents
from hitcounter_indexer.lifecycle import Lifecycle
from hitcounter_indexer.metrics import BusyClock, IndexerMetrics
from hitcounter_indexer.outcomes import INDEXED, NOT_WRITTEN, STORED, ItemOutcome, ItemResult
from hitcounter_indexer.prober import Prober
from hitcounter_indexer.settings import IndexerSection
from hitcounter_indexer.sink import Sink

_TOO_LARGE = 413
_NO_ANSWER = ItemResult(ItemOutcome.RETRY, "no_answer")
_NOT_SENT = ItemResult(ItemOutcome.HOLD, "not_sent")
"""Not an answer."""
_NOT_FLUSHED = "not_flushed"
_SLOW_SECONDS = 1.0
"""While the indexer is stopping, it sends no further bulk after one that took longer than this."""

log = get_logger()


@dataclass(frozen=True, slots=True)
class Unsettled:
    """The entries of a cycle that are not settled. All of them stay pending."""

    too_new: Sequence[Entry]
    """Entries that only a newer indexer can read."""
    deferred: Mapping[str, list[str]]
    """Ids of the entries that wait until the circuit breaker of an index closes, by index."""
    others: Sequence[Entry]
    """Refused for now, or the indexer is stopping."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """The result of one attempt to write the open documents. Without a problem and a refusal, everything is done."""

    problem: IndexUnavailable | None
    """Elasticsearch is down or overloaded. This says nothing about the documents."""
    refused: Mapping[str, ItemResult]
    """One response of each index that refuses documents and whose circuit breaker is closed."""


@dataclass(slots=True)
class Sent:
    """When the last request of a chunk was sent. Before that, it may have waited for a slot."""

    at: float


class Observer(Protocol):
    """Follows the work of an EntryWriter, for tracing."""

    def observe_cycle(self, entries: Sequence[Entry]) -> AbstractContextManager[object]:
        """Return a context that encloses the writing and settling of these entries."""

    async def observe_bulk(self, documents: int, send: Callable[[], Awaitable[list[ItemResult]]]) -> list[ItemResult]:
        """Send one bulk by `send`, and return its results."""


class EntryWriter:
    """Writes and settles entries; shared by the workers of one indexer."""

    def __init__(
        self,
        *,
        stream: StreamConsumer,
        sink: Sink,
        index_prefix: str,
        settings: IndexerSection,
        metrics: IndexerMetrics,
        lifecycle: Lifecycle,
        conditions: Conditions,
        observer: Observer | None = None,
    ) -> None:
        self._stream = stream
        self._sink = sink
        self._index_prefix = index_prefix
        self._settings = settings
        self._metrics = metrics
        self._lifecycle = lifecycle
        self._conditions = conditions
        self._observer = observer
        self._busy = BusyClock(metrics.busy_seconds)
        self._settled_hits = self._pushed_back_documents = 0
        self._writes = asyncio.Semaphore(max(1, settings.bulks_in_flight - 1))
        """One bulk is prepared while the others are written. Concurrent writes to one index create more segments, which
        Elasticsearch has to merge."""
        self._bulk_size = BulkSize(settings.bulk_max_documents)
        self._breakers = CircuitBreakers(time.monotonic)
        self.prober = Prober(stream, sink, self._breakers, metrics, conditions)
        self._unanswered_since: float | None = None
        """When the first request without a response was sent, if none after it got a response either."""

    async def write(self, entries: Sequence[Entry]) -> Unsettled:
        """Write and settle the entries. Some may stay pending (see above, and when the indexer is stopping).

        Raises:
            StreamUnavailable: Redis is down while the indexer is stopping. The documents are written; the entries are
                delivered again.
        """
        if self._observer is None:
            return await self._write_entries(entries)
        with self._observer.observe_cycle(entries):
            return await self._write_entries(entries)

    async def _write_entries(self, entries: Sequence[Entry]) -> Unsettled:
        work, too_new = await self._decode(entries)
        start, failures = time.monotonic(), 0
        while True:
            self._defer(work)
            if not work.open:
                break
            with self._busy.running():
                attempt = await self._write_open(work, is_repeat=failures > 0)
            if self._lifecycle.is_stopping:
                break
            if attempt.problem is None and not attempt.refused:
                continue
            if self._should_stop_retrying(attempt, work, start):
                log.warning(
                    "left entries pending that Elasticsearch does not accept",
                    documents=len(work.open),
                    **{index: result.description for index, result in attempt.refused.items()},
                )
                break
            await self._lifecycle.pause(backoff_seconds(failures))
            failures += 1
        return Unsettled(too_new, work.deferred, work.unsettled)

    def read_work(self) -> IndexerWork:
        """Return what this process has done since its start."""
        return IndexerWork(int(self._busy.read_seconds() * 1000), self._settled_hits, self._pushed_back_documents)

    def is_cut_off(self, for_seconds: float) -> bool:
        """Return whether Elasticsearch has not responded to any request for so long."""
        return self._unanswered_since is not None and time.monotonic() - self._unanswered_since >= for_seconds

    def _defer(self, work: Work) -> None:
        """Skip the documents of indices with an open circuit breaker."""
        if self._breakers.open_count:
            for item in work.defer(self._breakers.is_open):
                self._breakers.keep_for_probe(item.progress.entry.entry_id, item.action)

    # ── decoding ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _decode(self, entries: Sequence[Entry]) -> tuple[Work, list[Entry]]:
        """Return the documents of the entries, and the entries that are too new. Settle undecodable ones."""
        readable: list[tuple[Entry, Sequence[Action]]] = []
        rejected: list[Settlement] = []
        too_new: list[Entry] = []
        for entry in entries:
            try:
                readable.append((entry, self._read_actions(entry)))
            except EntryTooNew as error:
                too_new.append(entry)
                self._metrics.entries.labels("left").inc()
                log.warning("left an entry to a newer indexer", entry=entry.entry_id, reason=str(error))
            except UndecodableEntry as error:
                rejected.append(Settlement.reject(entry, "undecodable", str(error)))
            except Exception as error:  # a bug that only this entry triggers: it must not delay the other entries
                self._metrics.entries.labels("failed").inc()
                log.exception("an entry could not be handled", entry=entry.entry_id, deliveries=entry.deliveries)
                if entry.deliveries > self._settings.max_deliveries:
                    rejected.append(Settlement.reject(entry, "failed_too_often", f"{type(error).__name__}: {error}"))
        if rejected:
            await self._settle(rejected)
        return Work(readable), too_new

    def _read_actions(self, entry: Entry) -> list[Action]:
        documents = build_documents(decode(entry.payload), self._index_prefix)
        if entry.positions is not None:
            documents = [document for document in documents if document.position in entry.positions]
        hits = sum(document.hits for document in documents)
        if not documents or hits != entry.hits:
            raise UndecodableEntry(f"it contains {hits} hits, but the ledger counts {entry.hits}")
        return build_actions(documents)

    # ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _write_open(self, work: Work, *, is_repeat: bool) -> Attempt:
        """Send each open document once, and settle the entries that are done."""
        problem: IndexUnavailable | None = None
        refused: dict[str, ItemResult] = {}
        is_answered, is_going_on = True, True
        for chunk in work.take_chunks(self._bulk_size.documents, self._settings.bulk_max_bytes):
            if not is_answered or not is_going_on:  # this chunk would only wait, too
                work.note(chunk, [_NOT_SENT] * len(chunk))
                continue
            since = time.monotonic()
            sent = Sent(since)
            try:
                results = await self._write(chunk, sent, is_repeat=is_repeat)
            except IndexUnavailable as error:
                problem, is_answered = error, error.status is not None
                results = self._note_unanswered(work, chunk, error, sent.at)
            else:
                problem = self._note_results(chunk, results, refused, sent.at) or problem
            work.note(chunk, results)
            if finished := work.take_finished():
                await self._settle(finished)
            is_going_on = not (self._lifecycle.is_stopping and time.monotonic() - since > _SLOW_SECONDS)
        if not is_answered:
            self._bulk_size.shrink()
        elif problem is None:
            self._bulk_size.grow()
        refused = {index: result for index, result in refused.items() if not self._breakers.is_open(index)}
        self._report(problem, refused)
        return Attempt(problem, refused)

    def _report(self, problem: IndexUnavailable | None, refused: Mapping[str, ItemResult]) -> None:
        """Report the result of an attempt in /readyz."""
        if problem is None and refused:
            index, result = next(iter(refused.items()))
            problem = IndexUnavailable(f"{index} refuses documents: {result.description}")
        if problem is None:
            self._conditions.note_available(ELASTICSEARCH)
        else:
            self._conditions.note_problem(problem)

    def _note_unanswered(
        self, work: Work, chunk: Sequence[OpenAction], error: IndexUnavailable, since: float
    ) -> list[ItemResult]:
        """Record a request that failed as a whole. The next attempt sends one request per index, these indices last.

        This shows which index does not respond, and that index does not delay the others.
        """
        self._metrics.retried_documents.labels(_NO_ANSWER.reason).inc(len(chunk))
        self._metrics.items.labels(ItemOutcome.RETRY.value).inc(len(chunk))
        if error.status is not None or since == self._unanswered_since:
            # One request without a response after others were answered is backpressure. An indexer that gets none at
            # all may be the only one that is cut off, and then the others must not be kept from scaling up.
            self._pushed_back_documents += len(chunk)
        indices = {item.action.index_name for item in chunk}
        if error.status is None:
            work.split_by_index(last=indices)
            self._breakers.note_unanswered(indices, since)
            if len(indices) == 1:
                self.prober.note_refused(indices.pop(), str(error), since)
        return [_NO_ANSWER] * len(chunk)

    async def _write(self, chunk: Sequence[OpenAction], sent: Sent, *, is_repeat: bool) -> list[ItemResult]:
        """Write a chunk. If it is too large for Elasticsearch, write it in two halves."""
        actions = [item.action for item in chunk]
        send = functools.partial(self._send, actions, sent)
        try:
            results = await (send() if self._observer is None else self._observer.observe_bulk(len(actions), send))
        except IndexUnavailable as error:
            if error.status != _TOO_LARGE:
                raise
            if len(chunk) == 1:
                return [ItemResult(ItemOutcome.HOLD, "too_large", str(error))]
            half = len(chunk) // 2
            return [
                *await self._write(chunk[:half], sent, is_repeat=is_repeat),
                *await self._write(chunk[half:], sent, is_repeat=is_repeat),
            ]
        self._metrics.bulk_documents.observe(len(actions))
        if results.count(INDEXED) == len(results):
            return results
        results = self._reject_invalid(chunk, results)
        return await self._flush_duplicates(chunk, results, is_repeat=is_repeat)

    async def _send(self, actions: Sequence[Action], sent: Sent) -> list[ItemResult]:
        """Send one bulk, after waiting for a free slot."""
        async with self._writes:
            start = sent.at = time.monotonic()
            try:
                if self._breakers.open_count:  # a breaker may have opened since this bulk was prepared
                    results = await self._send_some(actions)
                else:
                    results = await self._sink.write(actions)
            except IndexUnavailable as error:
                self._note_answer(start, error)
                raise
            else:
                self._note_answer(start)
                return results
            finally:
                self._metrics.bulk_seconds.observe(time.monotonic() - start)
                self._lifecycle.heartbeat()

    def _note_answer(self, sent_at: float, error: IndexUnavailable | None = None) -> None:
        if error is None or error.status is not None:
            self._unanswered_since = None
        elif self._unanswered_since is None:
            self._unanswered_since = sent_at

    async def _send_some(self, actions: Sequence[Action]) -> list[ItemResult]:
        sent = [action for action in actions if not self._breakers.is_open(action.index_name)]
        results = iter(await self._sink.write(sent) if sent else ())
        indices = {action.index_name for action in sent}
        return [next(results) if action.index_name in indices else _NOT_SENT for action in actions]

    def _reject_invalid(self, chunk: Sequence[OpenAction], results: Sequence[ItemResult]) -> list[ItemResult]:
        """Reject documents that were delivered too often and are refused while their index accepts others.

        Only the same request counts as proof. An index that is closed and opened repeatedly accepts documents of some
        requests and refuses those of others, although all of them are valid (decision 9).
        """
        working = _indices_of(chunk, results, STORED)
        limit = self._settings.max_deliveries
        return [
            ItemResult(ItemOutcome.REJECT, "refused_too_often", result.description)
            if result.may_be_invalid and item.progress.entry.deliveries > limit and item.action.index_name in working
            else result
            for item, result in zip(chunk, results, strict=True)
        ]

    async def _flush_duplicates(
        self, chunk: Sequence[OpenAction], results: Sequence[ItemResult], *, is_repeat: bool
    ) -> list[ItemResult]:
        """Make sure that duplicates are on disk before their entries are settled.

        A duplicate means that an earlier delivery of the entry wrote the document. It does not mean that Elasticsearch
        has synced it: the indexer that waited for that may have died, and Elasticsearch may die next (decision 5). A
        key that a client sent twice needs no flush, because the first entry waits for its own response. If an index
        cannot be flushed, its duplicates are retried.
        """
        duplicates = {
            item.action.index_name
            for item, result in zip(chunk, results, strict=True)
            if result.outcome is ItemOutcome.DUPLICATE and (is_repeat or item.is_redelivered)
        }
        failed: dict[str, ItemResult] = {}
        for index in sorted(duplicates):
            try:
                await self._sink.flush([index])
            except IndexUnavailable as error:
                failed[index] = ItemResult(ItemOutcome.RETRY, _NOT_FLUSHED, str(error))
        return [
            failed.get(item.action.index_name, result) if result.outcome is ItemOutcome.DUPLICATE else result
            for item, result in zip(chunk, results, strict=True)
        ]

    def _note_results(
        self,
        chunk: Sequence[OpenAction],
        results: Sequence[ItemResult],
        refused: dict[str, ItemResult],
        since: float,
    ) -> IndexUnavailable | None:
        """Record which indices accept documents and which refuse them; return the backpressure, if there is any."""
        if results.count(INDEXED) == len(results):
            self._breakers.note_accepted({item.action.index_name for item in chunk})
            self._metrics.items.labels(ItemOutcome.INDEXED.value).inc(len(results))
            return None
        accepting = _indices_of(chunk, results, STORED)
        self._breakers.note_accepted(accepting)
        pushed_back: IndexUnavailable | None = None
        refusing: dict[str, ItemResult] = {}
        for item, result in zip(chunk, results, strict=True):
            if result is _NOT_SENT:
                continue
            index = item.action.index_name
            self._metrics.items.labels(result.outcome.value).inc()
            if result.outcome is ItemOutcome.RETRY:
                self._metrics.retried_documents.labels(result.reason).inc()
            if result.is_backpressure:
                if not result.is_index_missing:  # it is retried, but nothing is overloaded
                    self._pushed_back_documents += 1
                pushed_back = IndexUnavailable(f"{index} pushes back: {result.description}")
            elif result.outcome in NOT_WRITTEN and (index not in refusing or result.is_shard_refusal):
                refusing[index] = result
        for index, result in refusing.items():
            # A flush that fails says nothing about writes: a probe would close the breaker at once.
            if result.reason != _NOT_FLUSHED and (index not in accepting or result.is_shard_refusal):
                self.prober.note_refused(index, result.description, since)
        refused |= refusing
        return pushed_back

    def _should_stop_retrying(self, attempt: Attempt, work: Work, start: float) -> bool:
        """Return whether to stop retrying: the indices accept other documents, or it has taken too long (see above)."""
        has_taken_long = time.monotonic() - start > self._settings.reclaim_after_seconds
        if attempt.problem is not None:
            return has_taken_long and len({item.action.index_name for item in work.open}) == 1
        return has_taken_long or all(
            result.outcome is ItemOutcome.HOLD
            and not result.is_shard_refusal
            and self._breakers.has_accepted_since(index, start)
            for index, result in attempt.refused.items()
        )

    # ── settling ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _settle(self, settlements: Sequence[Settlement]) -> None:
        """Settle, and retry while Redis is down. Repeating it counts nothing twice."""
        start = time.monotonic()
        settled = set(await retry_redis(lambda: self._stream.settle(settlements), self._lifecycle, self._conditions))
        self._metrics.settle_seconds.observe(time.monotonic() - start)
        self._count([settlement for settlement in settlements if settlement.entry_id in settled])

    def _count(self, settlements: Sequence[Settlement]) -> None:
        """Count what this process has settled; entries that another process settled are counted there.

        Only the ledger is exact: if the response to a settle is lost, no process counts it.
        """
        hits = self._metrics.settled_hits
        indexed = sum(settlement.indexed for settlement in settlements)
        duplicate = sum(settlement.duplicate for settlement in settlements)
        self._settled_hits += indexed + duplicate
        hits.labels("indexed").inc(indexed)
        hits.labels("duplicate").inc(duplicate)
        for settlement in settlements:
            for letter in settlement.dead_letters:
                self._settled_hits += letter.hits
                hits.labels("dead").inc(letter.hits)
                log.error("dead letter", entry=settlement.entry_id, reason=letter.reason, detail=letter.detail)


def _indices_of(
    chunk: Sequence[OpenAction], results: Sequence[ItemResult], outcomes: Collection[ItemOutcome]
) -> set[str]:
    return {item.action.index_name for item, result in zip(chunk, results, strict=True) if result.outcome in outcomes}
