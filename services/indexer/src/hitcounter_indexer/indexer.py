"""The main loop of the indexer: read, decode, write, settle.

`run` works until it is stopped, with one worker per bulk in flight. `run_once` is one cycle of a worker.
`run_until_empty` repeats cycles until the stream is empty, for tests and for draining by hand.

An entry is settled only when all of its documents are done. If the process dies at any line, the entry stays pending:
another indexer reclaims it and writes the same documents with the same ids, so existing ones are duplicates and count
once. While a cycle runs, it renews the claim on its entries, so that only a silent indexer loses them. entry_writer.py
has the details.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence

from hitcounter.backoff import backoff_seconds
from hitcounter.elastic import Indices
from hitcounter.entries import Entry
from hitcounter.errors import IndexUnavailable, StreamUnavailable
from hitcounter.health import Readiness
from hitcounter.indices import TemplateState, indices_to_prepare
from hitcounter.ledger import IndexerWork
from hitcounter.logs import get_logger
from hitcounter.stream import StreamConsumer

from hitcounter_indexer.batching import BLIND_READ_MAX_ENTRIES, READ_MAX_ENTRIES, next_read_count
from hitcounter_indexer.conditions import ELASTICSEARCH, REDIS, Conditions, retry_redis
from hitcounter_indexer.deferred import DeferredEntries
from hitcounter_indexer.entry_writer import EntryWriter, Observer
from hitcounter_indexer.lifecycle import Lifecycle
from hitcounter_indexer.metrics import IndexerMetrics
from hitcounter_indexer.settings import IndexerSection
from hitcounter_indexer.sink import Sink

_MAINTAIN_INDICES_SECONDS = 60.0
_BREAKER_CHECK_SECONDS = 1.0
_BOOK_WORK_SECONDS = 1.0
_BAD_REQUEST = 400
_CLAIM_MAX_ENTRIES = 1000
"""Maximum number of entries in one command, so that it does not block Redis for others."""

log = get_logger()


class Indexer:
    """One consumer of the stream. Whoever creates it closes its connections."""

    def __init__(
        self,
        *,
        consumer: str,
        stream: StreamConsumer,
        sink: Sink,
        indices: Indices,
        settings: IndexerSection,
        metrics: IndexerMetrics,
        readiness: Readiness,
        observer: Observer | None = None,
    ) -> None:
        self.consumer = consumer
        self.lifecycle = Lifecycle()
        self._stream = stream
        self._indices = indices
        self._settings = settings
        self._metrics = metrics
        self._conditions = Conditions(readiness, metrics)
        self._writer = EntryWriter(
            stream=stream,
            sink=sink,
            index_prefix=indices.prefix,
            settings=settings,
            metrics=metrics,
            lifecycle=self.lifecycle,
            conditions=self._conditions,
            observer=observer,
        )
        self._reading = asyncio.Lock()
        self._in_progress: set[str] = set()
        self._deferred = DeferredEntries()
        self._booked = IndexerWork()
        self._next_reclaim = 0.0
        self._hits_per_entry = 1.0
        """Average hits per entry in the last cycle."""

    @property
    def conditions(self) -> Conditions:
        """What its workers wait for. Whatever else uses the servers reports there, and does not hide it."""
        return self._conditions

    # ── loops ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Index until stopped, then finish the bulks in progress and leave the consumer group."""
        try:
            await retry_redis(self._stream.ensure_group, self.lifecycle, self._conditions)
        except StreamUnavailable:
            pass  # it was stopped before Redis was up
        except Exception:  # a bug; the first read creates the group, too
            self._metrics.failures.labels("indexer").inc()
            log.exception("could not create the consumer group")
        async with asyncio.TaskGroup() as group:
            loops = (self._renew_claims(), self._maintain_indices(), self._check_breakers(), self._book_work())
            helpers = [group.create_task(loop) for loop in loops]
            workers = [group.create_task(self._run_worker()) for _ in range(self._settings.bulks_in_flight)]
            await asyncio.wait(workers)
            for helper in helpers:
                helper.cancel()
        await self.abandon()
        await self._leave()
        await self.book_work_once()

    def stop(self) -> None:
        """Stop reading; `run` returns when the current cycles are done."""
        self.lifecycle.stop()

    async def run_until_empty(self) -> int:
        """Index until a read finds nothing; return the number of entries read."""
        await self._stream.ensure_group()
        await self._ensure_indices()
        total = 0
        while taken := await self.run_once():
            total += taken
        return total

    async def run_once(self) -> int:
        """Do one cycle: read entries, write their documents, settle them. Return the number of entries read.

        Raises:
            StreamUnavailable: Redis is down. Entries that were read stay pending.
        """
        async with self._reading:
            entries = [] if self.lifecycle.is_stopping else await self._collect()
        self.lifecycle.heartbeat()
        if not entries:
            return 0
        with self._keep_claims(entries):
            unsettled = await self._writer.write(entries)
            for index, ids in unsettled.deferred.items():
                self._deferred.add(index, ids)
        self._metrics.deferred_entries.set(len(self._deferred))
        if unsettled.too_new:
            await self._hand_over_too_new(unsettled.too_new)
        if self.lifecycle.is_stopping and unsettled.others:
            await self._hand_over([entry.entry_id for entry in unsettled.others])
        self.lifecycle.heartbeat()
        return len(entries)

    async def _run_worker(self) -> None:
        attempt = 0
        while not self.lifecycle.is_stopping:
            try:
                await self.run_once()
            except StreamUnavailable as error:
                self._conditions.note_problem(error)
            except Exception:
                self._metrics.failures.labels("indexer").inc()
                log.exception("a cycle failed; its entries stay pending and will be tried again")
            else:
                self._conditions.note_available(REDIS)
                attempt = 0
                continue
            await self.lifecycle.pause(backoff_seconds(attempt))
            attempt += 1

    # ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _collect(self) -> list[Entry]:
        """Return entries for about one bulk: first those of silent consumers, then new ones, waiting briefly."""
        entries = await self._reclaim()
        has_waited = False
        while (wanted := self._remaining_hits(entries)) > 0:
            count = self._choose_count(wanted, entries)
            block_ms = 0 if entries else self._settings.block_ms
            read = await self._stream.read(self.consumer, count=count, block_ms=block_ms)
            self._metrics.entries.labels("read").inc(len(read))
            entries += read
            if len(read) == count:
                continue
            if not read or has_waited or self.lifecycle.is_stopping or self._remaining_hits(entries) <= 0:
                break
            has_waited = True
            await self.lifecycle.pause(self._settings.bulk_max_age_ms / 1000)
        if entries:
            self._hits_per_entry = _average_hits(entries)
        return entries

    def _choose_count(self, wanted: int, entries: Sequence[Entry]) -> int:
        """Return how many entries to read next, estimated from this cycle, or with a lower limit from the last one."""
        if entries:
            return next_read_count(wanted, _average_hits(entries), READ_MAX_ENTRIES)
        return next_read_count(wanted, self._hits_per_entry, BLIND_READ_MAX_ENTRIES)

    def _remaining_hits(self, entries: Sequence[Entry]) -> int:
        """Return how many more hits fit into a bulk with these entries."""
        return self._settings.bulk_max_documents - sum(entry.hits for entry in entries)

    async def _reclaim(self) -> list[Entry]:
        """Return entries of silent consumers, up to one bulk. Checks about four times per reclaim period."""
        silence_seconds = self._settings.reclaim_after_seconds
        entries: list[Entry] = []
        while time.monotonic() >= self._next_reclaim and self._remaining_hits(entries) > 0:
            due = self._next_reclaim
            found = await self._stream.reclaim(
                self.consumer, min_idle_ms=int(silence_seconds * 1000), count=BLIND_READ_MAX_ENTRIES
            )
            if not found and self._next_reclaim == due:  # otherwise entries were resumed meanwhile
                self._next_reclaim = time.monotonic() + silence_seconds / 4
            entries += [entry for entry in found if not self._is_claimed(entry.entry_id)]
        if self._deferred.is_full:
            # Entries that are not remembered are reclaimed again and again: read new ones between.
            self._next_reclaim = time.monotonic() + silence_seconds / 4
        if entries:
            self._metrics.entries.labels("reclaimed").inc(len(entries))
            log.info("took over entries of silent consumers", entries=len(entries))
        return entries

    async def _hand_over_too_new(self, entries: Sequence[Entry]) -> None:
        """Leave entries to a newer indexer, at once and with enough time, so that it does not lose the race for them.

        For new entries the time is until this indexer's next check for silent consumers. For entries that it found in
        such a check it is a whole reclaim period.
        """
        if any(entry.deliveries > 1 for entry in entries):
            self._next_reclaim = time.monotonic() + self._settings.reclaim_after_seconds
        await self._hand_over([entry.entry_id for entry in entries])

    async def _hand_over(self, entry_ids: Sequence[str]) -> None:
        """Make the entries available to the next consumer that reclaims."""
        idle_ms = int(self._settings.reclaim_after_seconds * 1000)
        for ids in _split(entry_ids):
            await self._stream.hand_over(self.consumer, ids, idle_ms=idle_ms)

    async def abandon(self) -> None:
        """Hand over entries that this indexer will not finish, so that others need not wait until it is silent."""
        ids = [*self._in_progress, *self._deferred]
        if not ids:
            return
        self._in_progress.clear()
        for index in self._deferred.indices:
            self._deferred.take(index)
        try:
            await self._hand_over(ids)
        except StreamUnavailable as error:
            log.warning("could not hand entries over", entries=len(ids), reason=str(error))

    # ── claims ──────────────────────────────────────────────────────────────────────────────────────────────────────

    @contextlib.contextmanager
    def _keep_claims(self, entries: Sequence[Entry]) -> Iterator[None]:
        """Renew the claims on the entries while the block runs."""
        ids = [entry.entry_id for entry in entries]
        self._in_progress.update(ids)
        self._metrics.entries_in_flight.set(len(self._in_progress))
        try:
            yield
        finally:
            self._in_progress.difference_update(ids)
            self._metrics.entries_in_flight.set(len(self._in_progress))

    def _is_claimed(self, entry_id: str) -> bool:
        """Return whether this indexer claims the entry: it is in progress, or deferred."""
        return entry_id in self._in_progress or entry_id in self._deferred

    async def _renew_claims(self) -> None:
        """Renew the claims on entries in progress and on entries that wait for an index, so that no one reclaims them.

        An indexer that gets no response from Elasticsearch renews nothing: it may be the only one that is cut off, and
        then the others must take over its entries. If all are cut off, none of them reads, and nothing is taken over.
        """
        period_seconds = self._settings.reclaim_after_seconds / 3
        while True:
            await asyncio.sleep(period_seconds)
            if self._writer.is_cut_off(period_seconds):
                continue
            for ids in _split(sorted(self._in_progress) + list(self._deferred)):
                # Meanwhile some may have been handed over to others.
                mine = [entry_id for entry_id in ids if self._is_claimed(entry_id)]
                try:
                    await self._stream.renew(self.consumer, mine)
                except StreamUnavailable:
                    log.debug("could not renew claims")  # the workers report it; a lost claim costs work, not hits
                except Exception:
                    log.exception("could not renew claims")

    async def _check_breakers(self) -> None:
        """Probe indices with an open circuit breaker, and resume the entries that waited for a closed one.

        Nothing waits for the probe of an index, because an index that does not answer takes as long as for a bulk.
        """
        async with asyncio.TaskGroup() as group:
            while True:
                await asyncio.sleep(_BREAKER_CHECK_SECONDS)
                for probe in self._writer.prober.take_due_probes():
                    group.create_task(self._recover(probe))
                await self._recover(self._resume_all)

    async def _recover(self, step: Callable[[], Awaitable[None]]) -> None:
        """Probe or resume. After a failure, the next check of the breakers goes on."""
        try:
            await step()
        except StreamUnavailable:
            log.debug("could not probe or resume")  # the workers report it; entries are reclaimed after a silence
        except Exception:
            self._metrics.failures.labels("indexer").inc()
            log.exception("could not probe or resume")

    async def _resume_all(self) -> None:
        for index in self._deferred.indices:
            if not self._writer.prober.is_open(index):
                await self._resume(index)

    async def _book_work(self) -> None:
        """Book the work in the ledger for autoscaling.

        This is a call of its own, and not part of a settle, because backpressure must be known while nothing can be
        settled, and because one call a second costs Redis less than more commands in each settle (decision 37).
        """
        while True:
            await asyncio.sleep(_BOOK_WORK_SECONDS)
            await self.book_work_once()

    async def book_work_once(self) -> None:
        """Book what was done since the last call. If the call fails, this is lost: it must not be booked twice."""
        done = self._writer.read_work()
        work, self._booked = done - self._booked, done
        if work == IndexerWork():
            return
        try:
            await self._stream.book_work(work)
        except StreamUnavailable:
            log.debug("could not book the work")  # the workers report it
        except Exception:
            self._metrics.failures.labels("indexer").inc()
            log.exception("could not book the work")

    async def _resume(self, index: str) -> None:
        ids = self._deferred.take(index)
        self._metrics.deferred_entries.set(len(self._deferred))
        await self._hand_over(ids)
        self._next_reclaim = time.monotonic()
        log.info("resumed entries that waited for an index", index=index, entries=len(ids))

    async def _maintain_indices(self) -> None:
        """Keep the index template and the indices of today and tomorrow in place. A failure stops no worker."""
        attempt = 0
        while True:
            if await self._ensure_indices():
                attempt = 0
                # The last cycle may have ended without a successful write, and others may have settled its entries.
                if not self._in_progress:
                    self._conditions.note_available(ELASTICSEARCH)
                await asyncio.sleep(_MAINTAIN_INDICES_SECONDS)
            else:
                await asyncio.sleep(backoff_seconds(attempt, max_seconds=_MAINTAIN_INDICES_SECONDS))
                attempt += 1

    async def _ensure_indices(self) -> bool:
        """Create what is missing; return whether everything is there."""
        today, tomorrow = indices_to_prepare(self._indices.prefix, time.time_ns() // 1_000_000)
        steps: dict[str, Callable[[], Awaitable[object]]] = {
            "today's index": lambda: self._indices.ensure([today]),
            "tomorrow's index": lambda: self._indices.ensure([tomorrow]),
            "index template": self._ensure_template,
        }
        return all([await self._try_to_prepare(name, step) for name, step in steps.items()])

    async def _ensure_template(self) -> None:
        check = await self._indices.ensure_template()
        if check.state is TemplateState.REFUSED:
            raise IndexUnavailable(check.refusal, status=_BAD_REQUEST)

    async def _try_to_prepare(self, name: str, step: Callable[[], Awaitable[object]]) -> bool:
        try:
            await step()
        except IndexUnavailable as error:
            self._conditions.note_background_failure(name, error)
            return False
        except Exception:
            self._metrics.failures.labels("indexer").inc()
            log.exception("could not prepare", what=name)
            return False
        self._conditions.clear_degraded(name)
        self._conditions.note_response(ELASTICSEARCH)
        return True

    async def _leave(self) -> None:
        try:
            if not await self._stream.leave(self.consumer):
                log.info("some entries stay pending; another indexer will reclaim them", consumer=self.consumer)
        except StreamUnavailable as error:
            log.warning("could not leave the consumer group", reason=str(error))


def _average_hits(entries: Sequence[Entry]) -> float:
    return sum(entry.hits for entry in entries) / len(entries)


def _split(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + _CLAIM_MAX_ENTRIES] for start in range(0, len(ids), _CLAIM_MAX_ENTRIES))
