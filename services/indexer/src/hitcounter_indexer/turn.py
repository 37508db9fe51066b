"""One turn: every document of some entries is brought to its end, and the entries are settled as theirs are.

What a turn does with a document that is not written at once depends on who is at fault (outcomes.py):

- Elasticsearch is away or has too much to do: the turn waits and tries again, as long as it takes. Its lane reads
  nothing meanwhile, which is the back-pressure.
- It refuses these documents for a reason that is not known to be their own: the turn tries for a while, but not beyond
  the moment at which the same index takes documents from others. Then the entries are left pending, so that nothing
  waits behind them, and come back when they are reclaimed.
- An entry that came back too often is tried alone, and then once more in one request with a document that its index is
  known to hold. Only if that one is met there while these are refused is the fault their own, and they become dead
  letters. A closed index, a missing permission, a shard limit hit everybody alike and so condemn nobody, also if they
  come and go.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

from hitcounter.backoff import backoff_seconds
from hitcounter.codec import decode
from hitcounter.entries import DeadLetter, Entry, Settlement
from hitcounter.errors import EntryTooNew, IndexUnavailable, StreamUnavailable, UndecodableEntry
from hitcounter.logs import get_logger
from hitcounter.stream import HitStream

from hitcounter_indexer.batching import BulkSize, OpenAction, Work
from hitcounter_indexer.documents import Action, build_actions, build_documents
from hitcounter_indexer.metrics import BusyClock, IndexerMetrics
from hitcounter_indexer.outcomes import ItemOutcome, ItemResult
from hitcounter_indexer.pacing import ELASTICSEARCH, REDIS, Conditions, Pace
from hitcounter_indexer.settings import IndexerSection
from hitcounter_indexer.sink import Sink

_TOO_LARGE = 413
_NO_ANSWER = ItemResult(ItemOutcome.RETRY, "no_answer")

log = get_logger()


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
        self._took_at: dict[str, float] = {}
        """When each index last took a document."""
        self._witnesses: dict[str, Action] = {}
        """The last document that each index took."""

    async def finish(self, entries: Sequence[Entry]) -> list[Entry]:
        """Bring the entries to their ends; some may be left pending (see above, and when stopping).

        Returns:
            The entries that only a newer indexer can read.

        Raises:
            StreamUnavailable: Redis is away while stopping; what was written will be met again.
        """
        most = self._settings.max_deliveries
        together = await self._decode([entry for entry in entries if entry.deliveries <= most])
        too_new = list(together.too_new)
        await self._finish_together(together)
        for entry in entries:
            if entry.deliveries > most:
                alone = await self._decode([entry])
                too_new += alone.too_new
                await self._try_alone(alone)
        return too_new

    async def _finish_together(self, work: Work) -> None:
        start, attempt = time.monotonic(), 0
        while work.open:
            with self._busy.running():
                held = await self._write_open(work, is_repeat=attempt > 0)
            if not work.open or self._pace.is_stopping:
                return
            if held is not None and self._is_hopeless(held, start):
                log.warning("left entries pending that Elasticsearch refuses", documents=len(work.open))
                return
            await self._pace.pause(backoff_seconds(attempt))
            attempt += 1

    async def _try_alone(self, work: Work) -> None:
        with self._busy.running():
            held = await self._write_open(work, is_repeat=True)
        if not held or not await self._is_their_own_fault([item.action for item in work.open]):
            return
        reason = ItemResult(ItemOutcome.REJECT, "refused_too_often", f"{held[0][1].reason}: {held[0][1].detail}")
        for chunk in work.take_chunks(self._settings.bulk_max_documents, self._settings.bulk_max_bytes):
            work.note(chunk, [reason] * len(chunk))
        await self._settle(work.take_finished())

    async def _is_their_own_fault(self, refused: Sequence[Action]) -> bool:
        """Try the refused documents once more beside one that each of their indices holds, in the same request.

        Whatever is wrong with an index hits both. Proof from another moment would be none: an index that is closed and
        opened again and again takes some documents and refuses others, and there is nothing wrong with any of them.
        Except for a full shard: it meets the documents that it holds, and refuses every other.
        """
        indices = {action.index_name for action in refused}
        witnesses = [self._witnesses[index] for index in indices & self._witnesses.keys()]
        if len(witnesses) < len(indices):
            return False
        try:
            results = await self._sink.write([*refused, *witnesses])
        except IndexUnavailable:
            return False
        of_refused, of_witnesses = results[: len(refused)], results[len(refused) :]
        return all(result.outcome is ItemOutcome.HOLD and not result.is_shard_full for result in of_refused) and all(
            result.outcome in (ItemOutcome.INDEXED, ItemOutcome.DUPLICATE) for result in of_witnesses
        )

    # ── decoding ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _decode(self, entries: Sequence[Entry]) -> Work:
        """Return the work that the entries hold; settles those that hold nothing that could be done."""
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
        return Work(readable, too_new)

    def _read_actions(self, entry: Entry) -> list[Action]:
        documents = build_documents(decode(entry.payload), self._index_prefix)
        if entry.positions is not None:
            documents = [document for document in documents if document.position in entry.positions]
        hits = sum(document.hits for document in documents)
        if not documents or hits != entry.hits:
            raise UndecodableEntry(f"it holds {hits} hits, the ledger has booked {entry.hits}")
        return build_actions(documents)

    # ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _write_open(self, work: Work, *, is_repeat: bool) -> list[tuple[str, ItemResult]] | None:
        """Try each open document once, and settle the entries that are done.

        Returns:
            The index and the answer of each document that is refused, or None where Elasticsearch is away or has too
            much to do: then nothing can be said of the documents.
        """
        problem: IndexUnavailable | None = None
        held: list[tuple[str, ItemResult]] = []
        is_answered = True
        for chunk in work.take_chunks(self._bulk_size.documents, self._settings.bulk_max_bytes):
            results = [_NO_ANSWER] * len(chunk)
            if is_answered:  # else this chunk need not wait for nothing, too
                try:
                    results = await self._write(chunk, is_repeat=is_repeat)
                except IndexUnavailable as error:
                    problem, is_answered = error, error.status is not None
            work.note(chunk, results)
            pushed_back = self._note_results(chunk, results, held)
            problem = problem or pushed_back  # why there was no answer says more than that there was none
        if not is_answered:
            self._bulk_size.shrink()
        elif problem is None:
            self._bulk_size.grow()
        if finished := work.take_finished():
            await self._settle(finished)
        if problem is not None:
            self._conditions.note_problem(problem)
            return None
        if held:
            index, result = held[0]
            self._conditions.note_problem(
                IndexUnavailable(f"{index} refuses {len(held)} documents: {result.reason}: {result.detail}")
            )
        else:
            self._conditions.note_well(ELASTICSEARCH)
        return held

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
        await self._flush_doubtful(chunk, results, is_repeat=is_repeat)
        return results

    async def _send(self, actions: Sequence[Action]) -> list[ItemResult]:
        """Send one bulk, when it is its turn."""
        async with self._writes:
            start = time.monotonic()
            try:
                return await self._sink.write(actions)
            finally:
                self._metrics.bulk_seconds.observe(time.monotonic() - start)
                self._pace.beat()

    async def _flush_doubtful(
        self, chunk: Sequence[OpenAction], results: Sequence[ItemResult], *, is_repeat: bool
    ) -> None:
        """Make sure that documents found already there are on disk before their entries are settled.

        A duplicate says that an earlier delivery of the entry wrote the document, not that Elasticsearch had synced it:
        the one who would have waited for that may have died, and Elasticsearch may be next. A key that a client sent
        twice needs nothing: the entry of the first waits for its own answer.
        """
        doubtful = {
            item.action.index_name
            for item, result in zip(chunk, results, strict=True)
            if result.outcome is ItemOutcome.DUPLICATE and (is_repeat or item.is_redelivered)
        }
        if doubtful:
            await self._sink.flush(doubtful)

    def _note_results(
        self, chunk: Sequence[OpenAction], results: Sequence[ItemResult], held: list[tuple[str, ItemResult]]
    ) -> IndexUnavailable | None:
        """Remember which indices take documents and which are refused; return push-back, if there is any."""
        pushed_back: IndexUnavailable | None = None
        now = time.monotonic()
        for item, result in zip(chunk, results, strict=True):
            index = item.action.index_name
            if result.outcome is ItemOutcome.INDEXED:
                self._took_at[index] = now
                self._witnesses[index] = item.action
            elif result.outcome in (ItemOutcome.RETRY, ItemOutcome.HOLD):
                self._metrics.retried_documents.labels(result.reason).inc()
                if result.outcome is ItemOutcome.HOLD:
                    held.append((index, result))
                else:
                    pushed_back = IndexUnavailable(f"{index} pushes back: {result.reason}: {result.detail}")
        for outcome, items in Counter(result.outcome for result in results).items():
            self._metrics.items.labels(outcome.value).inc(items)
        return pushed_back

    def _is_hopeless(self, held: Sequence[tuple[str, ItemResult]], start: float) -> bool:
        """Tell whether to stop trying refused documents for now: their indices take others, or it has lasted long."""
        return self._are_well(held, start) or time.monotonic() - start > self._settings.reclaim_after_seconds

    def _are_well(self, held: Sequence[tuple[str, ItemResult]], since: float) -> bool:
        """Tell whether all indices that refuse documents have taken others since then."""
        return bool(held) and all(self._took_at.get(index, 0.0) >= since for index, _ in held)

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
