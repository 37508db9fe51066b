"""One turn: every document of some entries is brought to its end, and the entries are settled as theirs are.

What a turn does with a document that is not written at once depends on who refuses it (outcomes.py):

- Elasticsearch is away or has too much to do: the turn waits and tries again, as long as it takes. Its lane reads
  nothing meanwhile, which is the back-pressure.
- Its index refuses everything while others take theirs (a red, closed or read-only day): the circuit breaker of that
  index opens (breaker.py), and its documents are left aside. Everything else is written and settled; an entry that has
  such a document stays pending until the breaker closes.
- Its index takes others, but not this one: its entry is left pending at once and comes back when it is reclaimed. One
  that came back too often is rejected, a dead letter, where the very request that refused it shows that its index is
  well: it held another document of this index that was taken.
- Nothing else comes through to compare it with: the turn tries for a while, then leaves the entries pending.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from hitcounter.backoff import backoff_seconds
from hitcounter.codec import decode
from hitcounter.entries import DeadLetter, Entry, Settlement
from hitcounter.errors import EntryTooNew, IndexUnavailable, StreamUnavailable, UndecodableEntry
from hitcounter.logs import get_logger
from hitcounter.stream import HitStream

from hitcounter_indexer.batching import BulkSize, OpenAction, Work
from hitcounter_indexer.breaker import CircuitBreakers
from hitcounter_indexer.documents import Action, build_actions, build_documents
from hitcounter_indexer.metrics import BusyClock, IndexerMetrics
from hitcounter_indexer.outcomes import INDEXED, ItemOutcome, ItemResult
from hitcounter_indexer.pacing import ELASTICSEARCH, REDIS, Conditions, Pace
from hitcounter_indexer.settings import IndexerSection
from hitcounter_indexer.sink import Sink

_TOO_LARGE = 413
_NO_ANSWER = ItemResult(ItemOutcome.RETRY, "no_answer")
_NOT_SENT = ItemResult(ItemOutcome.HOLD, "not_sent")
"""Not an answer."""
_SLOW_SECONDS = 1.0
"""A bulk that took longer is the last one of an indexer that is stopping."""
_IS_THERE = (ItemOutcome.INDEXED, ItemOutcome.DUPLICATE)

log = get_logger()


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """The entries of a turn that are not settled; all of them stay pending."""

    too_new: list[Entry] = field(default_factory=list)
    """Only a newer indexer can read them."""
    left: Mapping[str, list[str]] = field(default_factory=dict)
    """The ids of those that wait for the circuit breaker of an index to close, by that index."""
    unsettled: list[Entry] = field(default_factory=list)
    """The others: refused for now, or the indexer is stopping."""


class AttemptEnd(Enum):
    """How one try at the open documents ended."""

    DONE = "everything that was sent has found its end"
    PUSHED_BACK = "Elasticsearch is away or has too much to do: nothing can be said of the documents"
    REFUSED = "an index refuses documents, and its circuit breaker is closed"


@dataclass(frozen=True, slots=True)
class _Attempt:
    end: AttemptEnd
    refused: Mapping[str, ItemResult] = field(default_factory=dict)
    """For each index that refuses documents one of its answers."""


class TurnWriter:
    """Brings entries to their ends; shared by the lanes of one indexer."""

    def __init__(
        self,
        *,
        stream: HitStream,
        sink: Sink,
        index_prefix: str,
        settings: IndexerSection,
        metrics: IndexerMetrics,
        pace: Pace,
        conditions: Conditions,
    ) -> None:
        self._stream = stream
        self._sink = sink
        self._index_prefix = index_prefix
        self._settings = settings
        self._metrics = metrics
        self._pace = pace
        self._conditions = conditions
        self._busy = BusyClock(metrics.busy_seconds)
        self._writes = asyncio.Semaphore(max(1, settings.bulks_in_flight - 1))
        """One bulk is prepared while the others are written. Two writes of one index at once make segments in pairs,
        which Elasticsearch has to merge."""
        self._bulk_size = BulkSize(settings.bulk_max_documents)
        self._breakers = CircuitBreakers(time.monotonic)
        self._unanswered_since: float | None = None
        """When the first of the requests was sent that got no answer, nor did any after it."""

    async def finish(self, entries: Sequence[Entry]) -> TurnEnd:
        """Bring the entries to their ends; some may be left pending (see above, and when stopping).

        Raises:
            StreamUnavailable: Redis is away while stopping; what was written will be met again.
        """
        work, too_new = await self._decode(entries)
        start, attempt = time.monotonic(), 0
        while True:
            self._leave_aside(work)
            if not work.open:
                break
            with self._busy.running():
                tried = await self._write_open(work, is_repeat=attempt > 0)
            if self._pace.is_stopping:
                break
            if tried.end is AttemptEnd.DONE:
                continue
            if tried.end is AttemptEnd.REFUSED and self._is_hopeless(tried.refused, start):
                log.warning(
                    "left entries pending that Elasticsearch refuses",
                    documents=len(work.open),
                    **{index: f"{result.reason}: {result.detail}" for index, result in tried.refused.items()},
                )
                break
            await self._pace.pause(backoff_seconds(attempt))
            attempt += 1
        return TurnEnd(too_new, work.left, work.unsettled)

    def is_cut_off(self, for_seconds: float) -> bool:
        """Tell whether requests to Elasticsearch have been failing for so long without any answer."""
        return self._unanswered_since is not None and time.monotonic() - self._unanswered_since >= for_seconds

    # ── circuit breakers ────────────────────────────────────────────────────────────────────────────────────────────

    def is_open(self, index: str) -> bool:
        """Tell whether the circuit breaker of the index is open."""
        return self._breakers.is_open(index)

    async def probe(self) -> None:
        """Send the probes that are due; an index that takes its own is written to again."""
        due = self._breakers.take_due()
        await asyncio.gather(*[self._probe(index, actions) for index, actions in due.items()])

    async def _probe(self, index: str, actions: Sequence[Action]) -> None:
        # Not in line with the bulks: Elasticsearch may hold it for as long as a bulk may take. What it writes is met as
        # a duplicate, and flushed, when its entry comes back.
        is_taken, reason = False, ""
        try:
            results = await self._sink.write(actions)
            refusing = [result for result in results if result.outcome is ItemOutcome.RETRY or result.is_of_shard]
            is_taken = not refusing and any(result.outcome is not ItemOutcome.HOLD for result in results)
            reason = next((_tell(result) for result in results if result.outcome not in _IS_THERE), "")
        except IndexUnavailable as error:
            reason = str(error)
        finally:
            self._breakers.note_probed(index, is_taken=is_taken, reason=reason)
        self._metrics.open_circuit_breakers.set(len(self._breakers.open_indices))
        if is_taken:
            self._conditions.note_healed(index)
            log.info("circuit breaker closed", index=index)
        else:
            self._conditions.note_degraded(index, f"circuit breaker open: {reason}")

    def _leave_aside(self, work: Work) -> None:
        """Take the documents of indices whose breakers are open out of the turn."""
        if self._breakers.is_any_open:
            for action in work.leave_aside(self._breakers.is_open):
                self._breakers.keep_for_probe(action)

    def _note_refused(self, index: str, reason: str, since: float) -> None:
        if self._breakers.note_refused(index, reason, since):
            self._metrics.open_circuit_breakers.set(len(self._breakers.open_indices))
            self._conditions.note_degraded(index, f"circuit breaker open: {reason}")

    # ── decoding ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _decode(self, entries: Sequence[Entry]) -> tuple[Work, list[Entry]]:
        """Return the work that the entries hold, and those that are too new; settles those that hold no work."""
        readable: list[tuple[Entry, Sequence[Action]]] = []
        condemned: list[Settlement] = []
        too_new: list[Entry] = []
        for entry in entries:
            try:
                readable.append((entry, self._read_actions(entry)))
            except EntryTooNew as error:
                too_new.append(entry)
                self._metrics.entries.labels("left").inc()
                log.warning("left an entry to a newer indexer", entry=entry.entry_id, reason=str(error))
            except UndecodableEntry as error:
                condemned.append(_condemn(entry, "undecodable", str(error)))
            except Exception as error:  # a bug of ours that this entry meets: it must not hold up its neighbours
                self._metrics.entries.labels("failed").inc()
                log.exception("an entry could not be handled", entry=entry.entry_id, deliveries=entry.deliveries)
                if entry.deliveries > self._settings.max_deliveries:
                    condemned.append(_condemn(entry, "failed_too_often", f"{type(error).__name__}: {error}"))
        if condemned:
            await self._settle(condemned)
        return Work(readable), too_new

    def _read_actions(self, entry: Entry) -> list[Action]:
        documents = build_documents(decode(entry.payload), self._index_prefix)
        if entry.positions is not None:
            documents = [document for document in documents if document.position in entry.positions]
        hits = sum(document.hits for document in documents)
        if not documents or hits != entry.hits:
            raise UndecodableEntry(f"it holds {hits} hits, the ledger has booked {entry.hits}")
        return build_actions(documents)

    # ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _write_open(self, work: Work, *, is_repeat: bool) -> _Attempt:
        """Try each open document once, and settle the entries that are done."""
        problem: IndexUnavailable | None = None
        refused: dict[str, ItemResult] = {}
        is_answered, is_going_on = True, True
        for chunk in work.take_chunks(self._bulk_size.documents, self._settings.bulk_max_bytes):
            if not is_answered or not is_going_on:  # else this chunk would wait for nothing, too
                work.note(chunk, [_NOT_SENT] * len(chunk))
                continue
            since = time.monotonic()
            try:
                results = await self._write(chunk, is_repeat=is_repeat)
            except IndexUnavailable as error:
                problem, is_answered = error, error.status is not None
                results = self._note_unanswered(work, chunk, error, since)
            else:
                problem = self._note_results(chunk, results, refused, since) or problem
            work.note(chunk, results)
            if finished := work.take_finished():
                await self._settle(finished)
            is_going_on = not (self._pace.is_stopping and time.monotonic() - since > _SLOW_SECONDS)
        if not is_answered:
            self._bulk_size.shrink()
        elif problem is None:
            self._bulk_size.grow()
        return self._conclude(problem, {index: result for index, result in refused.items() if not self.is_open(index)})

    def _conclude(self, problem: IndexUnavailable | None, refused: Mapping[str, ItemResult]) -> _Attempt:
        """Say how an attempt ended, in readiness too."""
        if problem is not None:
            self._conditions.note_problem(problem)
            return _Attempt(AttemptEnd.PUSHED_BACK)
        if not refused:
            self._conditions.note_well(ELASTICSEARCH)
            return _Attempt(AttemptEnd.DONE)
        index, result = next(iter(refused.items()))
        self._conditions.note_problem(IndexUnavailable(f"{index} refuses documents: {_tell(result)}"))
        return _Attempt(AttemptEnd.REFUSED, refused)

    def _note_unanswered(
        self, work: Work, chunk: Sequence[OpenAction], error: IndexUnavailable, since: float
    ) -> list[ItemResult]:
        """Note a request that failed as a whole; the next attempt asks index by index, and others before these.

        So it is seen which one does not answer, and it does not stand in front of the others for ever.
        """
        self._metrics.retried_documents.labels(_NO_ANSWER.reason).inc(len(chunk))
        self._metrics.items.labels(ItemOutcome.RETRY.value).inc(len(chunk))
        indices = {item.action.index_name for item in chunk}
        if error.status is None:
            work.split_by_index(last=indices)
            if len(indices) == 1:
                self._note_refused(indices.pop(), str(error), since)
        return [_NO_ANSWER] * len(chunk)

    async def _write(self, chunk: Sequence[OpenAction], *, is_repeat: bool) -> list[ItemResult]:
        """Write a chunk, in halves where it is too large for Elasticsearch."""
        actions = [item.action for item in chunk]
        try:
            results = await self._send(actions)
        except IndexUnavailable as error:
            if error.status != _TOO_LARGE:
                raise
            if len(chunk) == 1:
                return [ItemResult(ItemOutcome.HOLD, "too_large", str(error))]
            half = len(chunk) // 2
            return [
                *await self._write(chunk[:half], is_repeat=is_repeat),
                *await self._write(chunk[half:], is_repeat=is_repeat),
            ]
        self._metrics.bulk_documents.observe(len(actions))
        if results.count(INDEXED) == len(results):
            return results
        results = self._reject_invalid(chunk, results)
        return await self._flush_doubtful(chunk, results, is_repeat=is_repeat)

    async def _send(self, actions: Sequence[Action]) -> list[ItemResult]:
        """Send one bulk, when it is its turn."""
        async with self._writes:
            start = time.monotonic()
            try:
                if self._breakers.is_any_open:  # perhaps since this bulk was made
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
                self._pace.beat()

    def _note_answer(self, sent_at: float, error: IndexUnavailable | None = None) -> None:
        if error is None or error.status is not None:
            self._unanswered_since = None
        elif self._unanswered_since is None:
            self._unanswered_since = sent_at

    async def _send_some(self, actions: Sequence[Action]) -> list[ItemResult]:
        sent = [action for action in actions if not self.is_open(action.index_name)]
        results = iter(await self._sink.write(sent) if sent else ())
        indices = {action.index_name for action in sent}
        return [next(results) if action.index_name in indices else _NOT_SENT for action in actions]

    def _reject_invalid(self, chunk: Sequence[OpenAction], results: Sequence[ItemResult]) -> list[ItemResult]:
        """Reject documents that came back too often and are refused while the same request shows their index well.

        Proof from another request would be none: an index that is closed and opened again and again takes some
        documents and refuses others, and there is nothing wrong with any of them.
        """
        well = _indices_of(chunk, results, _IS_THERE)
        most = self._settings.max_deliveries
        return [
            ItemResult(ItemOutcome.REJECT, "refused_too_often", _tell(result))
            if result.may_be_invalid and item.progress.entry.deliveries > most and item.action.index_name in well
            else result
            for item, result in zip(chunk, results, strict=True)
        ]

    async def _flush_doubtful(
        self, chunk: Sequence[OpenAction], results: Sequence[ItemResult], *, is_repeat: bool
    ) -> list[ItemResult]:
        """Make sure that documents found already there are on disk before their entries are settled.

        A duplicate says that an earlier delivery of the entry wrote the document, not that Elasticsearch had synced it:
        the one who would have waited for that may have died, and Elasticsearch may be next. A key that a client sent
        twice needs nothing: the entry of the first waits for its own answer. Duplicates of an index that cannot be
        flushed have to be tried again.
        """
        doubtful = {
            item.action.index_name
            for item, result in zip(chunk, results, strict=True)
            if result.outcome is ItemOutcome.DUPLICATE and (is_repeat or item.is_redelivered)
        }
        failed: dict[str, ItemResult] = {}
        for index in sorted(doubtful):
            try:
                await self._sink.flush([index])
            except IndexUnavailable as error:
                failed[index] = ItemResult(ItemOutcome.RETRY, "not_flushed", str(error))
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
        """Remember which indices take documents and which refuse them; return push-back, if there is any."""
        if results.count(INDEXED) == len(results):
            self._breakers.note_taken({item.action.index_name for item in chunk})
            self._metrics.items.labels(ItemOutcome.INDEXED.value).inc(len(results))
            return None
        taken = _indices_of(chunk, results, _IS_THERE)
        self._breakers.note_taken(taken)
        pushed_back: IndexUnavailable | None = None
        here: dict[str, ItemResult] = {}
        for item, result in zip(chunk, results, strict=True):
            if result is _NOT_SENT:
                continue
            index = item.action.index_name
            self._metrics.items.labels(result.outcome.value).inc()
            if result.outcome is ItemOutcome.RETRY:
                self._metrics.retried_documents.labels(result.reason).inc()
            if result.is_push_back:
                pushed_back = IndexUnavailable(f"{index} pushes back: {_tell(result)}")
            elif result.outcome in (ItemOutcome.RETRY, ItemOutcome.HOLD) and (index not in here or result.is_of_shard):
                here[index] = result
        for index, result in here.items():
            if index not in taken or result.is_of_shard:
                self._note_refused(index, _tell(result), since)
        refused |= here
        return pushed_back

    def _is_hopeless(self, refused: Mapping[str, ItemResult], start: float) -> bool:
        """Tell whether to stop trying refused documents for now: their indices take others, or it has lasted long."""
        if time.monotonic() - start > self._settings.reclaim_after_seconds:
            return True
        return all(
            result.outcome is ItemOutcome.HOLD
            and not result.is_of_shard
            and self._breakers.has_taken_since(index, start)
            for index, result in refused.items()
        )

    # ── settling ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _settle(self, settlements: Sequence[Settlement]) -> None:
        """Settle, again and again while Redis is away; the documents are written, and repeating books nothing twice."""
        start, attempt = time.monotonic(), 0
        while True:
            try:
                settled = set(await self._stream.settle(settlements))
                break
            except StreamUnavailable as error:
                self._conditions.note_problem(error)
                if self._pace.is_stopping:
                    raise
                await self._pace.pause(backoff_seconds(attempt))
                attempt += 1
        self._conditions.note_well(REDIS)
        self._metrics.settle_seconds.observe(time.monotonic() - start)
        self._count([settlement for settlement in settlements if settlement.entry_id in settled])

    def _count(self, settlements: Sequence[Settlement]) -> None:
        """Count what this process has settled: what others settled before it is counted by them.

        Only the ledger is exact: a settling whose answer was lost is counted by nobody.
        """
        hits = self._metrics.settled_hits
        hits.labels("indexed").inc(sum(settlement.indexed for settlement in settlements))
        hits.labels("duplicate").inc(sum(settlement.duplicate for settlement in settlements))
        for settlement in settlements:
            for letter in settlement.dead_letters:
                hits.labels("dead").inc(letter.hits)
                log.error("dead letter", entry=settlement.entry_id, reason=letter.reason, detail=letter.detail)


def _condemn(entry: Entry, reason: str, detail: str) -> Settlement:
    positions = None if entry.positions is None else sorted(entry.positions)
    return Settlement(entry.entry_id, dead_letters=[DeadLetter(reason, detail, entry.hits, entry.payload, positions)])


def _indices_of(
    chunk: Sequence[OpenAction], results: Sequence[ItemResult], outcomes: Collection[ItemOutcome]
) -> set[str]:
    return {item.action.index_name for item, result in zip(chunk, results, strict=True) if result.outcome in outcomes}


def _tell(result: ItemResult) -> str:
    return f"{result.reason}: {result.detail}"
