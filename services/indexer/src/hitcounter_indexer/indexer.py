"""The loop that turns entries into counts: read, decode, write, settle.

`run` says "until stopped", one lane per bulk in flight; `run_once` is one visible turn of a lane; `run_until_empty`
drives the same turns until nothing is left, for tests and for draining by hand.

An entry is settled only when each of its documents has found its end, so a death at any line leaves it pending:
another indexer reclaims it, writes the same documents under the same ids, and meets those that were there already.
While a turn lasts its entries are claimed anew now and then, so that only the silent lose theirs. The story goes on
in documents.py (what is written), outcomes.py (what the answers mean) and settle.lua (how it is booked).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence

from hitcounter.backoff import backoff_seconds
from hitcounter.codec import decode
from hitcounter.elastic import Indices
from hitcounter.entries import DeadLetter, Entry, Settlement
from hitcounter.errors import EntryTooNew, IndexUnavailable, StreamUnavailable, UndecodableEntry
from hitcounter.health import Readiness
from hitcounter.indices import indices_to_prepare
from hitcounter.logs import get_logger
from hitcounter.stream import HitStream

from hitcounter_indexer.batching import OpenAction, Work, next_read_count
from hitcounter_indexer.documents import Action, build_actions, build_documents
from hitcounter_indexer.metrics import BusyClock, IndexerMetrics
from hitcounter_indexer.outcomes import ItemOutcome, ItemResult
from hitcounter_indexer.settings import IndexerSection
from hitcounter_indexer.sink import Sink

REDIS, ELASTICSEARCH = "redis", "elasticsearch"
_KEEP_INDICES_SECONDS = 60.0
_TOO_LARGE = 413

log = get_logger()


class Indexer:
    """One consumer of the stream. Its connections belong to who made it."""

    def __init__(
        self,
        *,
        consumer: str,
        stream: HitStream,
        sink: Sink,
        indices: Indices,
        settings: IndexerSection,
        metrics: IndexerMetrics,
        readiness: Readiness,
    ) -> None:
        self.consumer = consumer
        self._stream = stream
        self._sink = sink
        self._indices = indices
        self._settings = settings
        self._metrics = metrics
        self._readiness = readiness
        self._busy = BusyClock(metrics.busy_seconds)
        self._stopping = asyncio.Event()
        self._reading = asyncio.Lock()
        self._held: set[str] = set()
        self._next_reclaim = 0.0
        self.last_turn = time.monotonic()
        """When a lane last finished a turn or was seen waiting on purpose: the liveness probe looks at it."""

    # ── loops ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Index until stopped, then finish what is under way and leave the group."""
        await self._until_done(self._prepare)
        async with asyncio.TaskGroup() as group:
            helpers = [group.create_task(self._renew_claims()), group.create_task(self._keep_indices())]
            lanes = [group.create_task(self._run_lane()) for _ in range(self._settings.bulks_in_flight)]
            await asyncio.wait(lanes)
            for helper in helpers:
                helper.cancel()
        await self._leave()

    def stop(self) -> None:
        """Read no more; `run` returns when the turns under way are done."""
        self._stopping.set()

    async def run_until_empty(self) -> int:
        """Index until a read finds nothing; return the number of entries taken."""
        await self._prepare()
        total = 0
        while taken := await self.run_once():
            total += taken
        return total

    async def run_once(self) -> int:
        """Do one turn: read some entries, write their documents, settle them. Return the number of entries taken.

        Raises:
            StreamUnavailable: Redis is away. Entries that were read stay pending.
        """
        async with self._reading:
            entries = [] if self._stopping.is_set() else await self._collect()
        self.last_turn = time.monotonic()
        if not entries:
            return 0
        self._hold(entries)
        try:
            with self._busy.running():
                for group in self._isolate(entries):
                    await self._index(group)
        finally:
            self._release(entries)
            self.last_turn = time.monotonic()
        return len(entries)

    async def _run_lane(self) -> None:
        attempt = 0
        while not self._stopping.is_set():
            try:
                await self.run_once()
                attempt = 0
                self._note_well(REDIS)
            except StreamUnavailable as error:
                self._note_problem(REDIS, error)
                await self._pause(backoff_seconds(attempt))
                attempt += 1
            except Exception:
                self._metrics.failures.labels("indexer").inc()
                log.exception("a turn failed; its entries stay pending and will be tried again")
                await self._pause(backoff_seconds(attempt))
                attempt += 1

    # ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _collect(self) -> list[Entry]:
        """Return entries for about one bulk: what others left behind, then what is new, waiting a little for more."""
        entries = await self._reclaim()
        is_patient = True
        while (wanted := self._settings.bulk_max_documents - sum(entry.hits for entry in entries)) > 0:
            count = next_read_count(wanted, len(entries), sum(entry.hits for entry in entries))
            block_ms = 0 if entries else self._settings.block_ms
            read = await self._stream.read(self.consumer, count=count, block_ms=block_ms)
            self._metrics.entries.labels("read").inc(len(read))
            entries += read
            if len(read) == count:
                continue
            if not read or not is_patient or self._stopping.is_set():
                break
            is_patient = False
            await self._pause(self._settings.bulk_max_age_ms / 1000)
        return entries

    async def _reclaim(self) -> list[Entry]:
        silence_seconds = self._settings.reclaim_after_seconds
        if (now := time.monotonic()) < self._next_reclaim:
            return []
        self._next_reclaim = now + silence_seconds / 4
        found = await self._stream.reclaim(self.consumer, min_idle_ms=int(silence_seconds * 1000), count=100)
        entries = [entry for entry in found if entry.entry_id not in self._held]
        if entries:
            self._metrics.entries.labels("reclaimed").inc(len(entries))
            self._next_reclaim = now  # there may be more
            log.info("took over entries of silent consumers", entries=len(entries))
        return entries

    def _isolate(self, entries: list[Entry]) -> list[list[Entry]]:
        """Set entries that were delivered suspiciously often apart, each by itself, behind the others."""
        most = self._settings.max_deliveries
        calm = [entry for entry in entries if entry.deliveries <= most]
        return [group for group in [calm, *([entry] for entry in entries if entry.deliveries > most)] if group]

    # ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _index(self, entries: list[Entry]) -> None:
        """Bring the documents of the entries to their ends; returns early, leaving entries pending, when stopping."""
        work, condemned = self._decode(entries)
        if condemned:
            await self._settle(condemned)
        attempt = 0
        while work.open:
            problem: IndexUnavailable | None = None
            for chunk in work.take_chunks(self._settings.bulk_max_documents, self._settings.bulk_max_bytes):
                try:
                    results = await self._write(chunk, is_repeat=attempt > 0)
                except IndexUnavailable as error:
                    problem = error
                    results = [ItemResult(ItemOutcome.HOLD, "no_answer", str(error))] * len(chunk)
                work.note(chunk, results)
                self._note_results(results, problem)
            if finished := work.take_finished():
                await self._settle(finished)
            if work.open:
                if self._stopping.is_set():
                    return
                await self._pause(backoff_seconds(attempt))
                attempt += 1

    def _decode(self, entries: list[Entry]) -> tuple[Work, list[Settlement]]:
        """Return the work that the entries hold, and the settlements of those that hold none that could be done."""
        readable: list[tuple[Entry, Sequence[Action]]] = []
        condemned: list[Settlement] = []
        for entry in entries:
            try:
                readable.append((entry, self._read_actions(entry)))
            except EntryTooNew as error:
                self._metrics.entries.labels("left").inc()
                log.warning("left an entry to a newer indexer", entry=entry.entry_id, reason=str(error))
            except UndecodableEntry as error:
                condemned.append(_condemn(entry, "undecodable", str(error)))
            except Exception as error:  # a bug of ours that this entry meets: it must not hold up its neighbours
                self._metrics.entries.labels("failed").inc()
                log.exception("an entry could not be handled", entry=entry.entry_id, deliveries=entry.deliveries)
                if entry.deliveries > self._settings.max_deliveries:
                    condemned.append(_condemn(entry, "failed_too_often", f"{type(error).__name__}: {error}"))
        return Work(readable), condemned

    def _read_actions(self, entry: Entry) -> list[Action]:
        documents = build_documents(decode(entry.payload), self._indices.prefix)
        if entry.positions is not None:
            documents = [document for document in documents if document.position in entry.positions]
        if (hits := sum(document.hits for document in documents)) != entry.hits:
            raise UndecodableEntry(f"it holds {hits} hits, the ledger has booked {entry.hits}")
        return build_actions(documents)

    async def _write(self, chunk: Sequence[OpenAction], *, is_repeat: bool) -> list[ItemResult]:
        """Write a chunk, in halves where it is too large for Elasticsearch."""
        actions = [item.action for item in chunk]
        start = time.monotonic()
        try:
            results = await self._sink.write(actions)
        except IndexUnavailable as error:
            if error.status != _TOO_LARGE or len(chunk) == 1:
                raise
            half = len(chunk) // 2
            return [
                *await self._write(chunk[:half], is_repeat=is_repeat),
                *await self._write(chunk[half:], is_repeat=is_repeat),
            ]
        finally:
            self._metrics.bulk_seconds.observe(time.monotonic() - start)
        self._metrics.bulk_documents.observe(len(actions))
        await self._flush_doubtful(chunk, results, is_repeat=is_repeat)
        return results

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

    async def _settle(self, settlements: Sequence[Settlement]) -> None:
        """Settle, again and again while Redis is away; the documents are written, and repeating books nothing twice."""
        attempt = 0
        while True:
            try:
                await self._stream.settle(settlements)
                break
            except StreamUnavailable as error:
                self._note_problem(REDIS, error)
                if self._stopping.is_set():
                    raise
                await self._pause(backoff_seconds(attempt))
                attempt += 1
        settled = self._metrics.settled_hits
        settled.labels("indexed").inc(sum(settlement.indexed for settlement in settlements))
        settled.labels("duplicate").inc(sum(settlement.duplicate for settlement in settlements))
        for settlement in settlements:
            self._held.discard(settlement.entry_id)
            for letter in settlement.dead_letters:
                settled.labels("dead").inc(letter.hits)
                log.error("dead letter", entry=settlement.entry_id, reason=letter.reason, detail=letter.detail)

    # ── keeping ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _prepare(self) -> None:
        """Make the group, the template and the indices of today and tomorrow."""
        await self._stream.ensure_group()
        self._note_well(REDIS)
        await self._ensure_indices()

    async def _ensure_indices(self) -> None:
        await self._indices.ensure_template()
        await self._indices.ensure(indices_to_prepare(self._indices.prefix, time.time_ns() // 1_000_000))
        self._note_well(ELASTICSEARCH)

    async def _keep_indices(self) -> None:
        while True:
            await asyncio.sleep(_KEEP_INDICES_SECONDS)
            await self._until_done(self._ensure_indices)

    async def _renew_claims(self) -> None:
        """Claim the entries under way anew, so that a long retry does not look like silence."""
        while True:
            await asyncio.sleep(self._settings.reclaim_after_seconds / 3)
            if self._held:
                with contextlib.suppress(StreamUnavailable):  # the lanes report it; a lost claim costs work, not hits
                    await self._stream.renew(self.consumer, sorted(self._held))

    async def _leave(self) -> None:
        try:
            if not await self._stream.leave(self.consumer):
                log.info("entries are left pending; another indexer will reclaim them", consumer=self.consumer)
        except StreamUnavailable as error:
            log.warning("could not leave the consumer group", reason=str(error))

    async def _until_done(self, action: Callable[[], Awaitable[None]]) -> None:
        """Repeat the action, with back-off, until it succeeds or the indexer is to stop."""
        attempt = 0
        while not self._stopping.is_set():
            try:
                await action()
                return
            except StreamUnavailable as error:
                self._note_problem(REDIS, error)
            except IndexUnavailable as error:
                self._note_problem(ELASTICSEARCH, error)
            await self._pause(backoff_seconds(attempt))
            attempt += 1

    async def _pause(self, seconds: float) -> None:
        """Wait, but not beyond the moment at which the indexer is to stop."""
        self.last_turn = time.monotonic()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    def _hold(self, entries: Sequence[Entry]) -> None:
        self._held.update(entry.entry_id for entry in entries)
        self._metrics.entries_in_flight.set(len(self._held))

    def _release(self, entries: Sequence[Entry]) -> None:
        self._held.difference_update(entry.entry_id for entry in entries)
        self._metrics.entries_in_flight.set(len(self._held))

    # ── telling ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _note_results(self, results: Sequence[ItemResult], problem: IndexUnavailable | None) -> None:
        unfinished = [result for result in results if result.outcome in (ItemOutcome.RETRY, ItemOutcome.HOLD)]
        for result in unfinished:
            self._metrics.retried_documents.labels(result.reason).inc()
        held = next((result for result in unfinished if result.outcome is ItemOutcome.HOLD), None)
        if problem is not None:
            self._note_problem(ELASTICSEARCH, problem)
        elif held is not None:
            self._note_problem(ELASTICSEARCH, IndexUnavailable(f"documents are refused: {held.reason}: {held.detail}"))
        elif not unfinished:
            self._note_well(ELASTICSEARCH)

    def _note_problem(self, server: str, error: StreamUnavailable | IndexUnavailable) -> None:
        self._metrics.failures.labels(server).inc()
        if self._readiness.set_problem(server, str(error)):
            log.warning("waiting", server=server, reason=str(error))

    def _note_well(self, server: str) -> None:
        if self._readiness.clear(server):
            log.info("connected", server=server)


def _condemn(entry: Entry, reason: str, detail: str) -> Settlement:
    return Settlement(entry.entry_id, dead_letters=[DeadLetter(reason, detail, hits=entry.hits, payload=entry.payload)])
