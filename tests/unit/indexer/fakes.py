"""A stream, a sink and indices in memory that fail on demand, and a journal of what the indexer did to them.

Only the unit level has fakes. They keep the contracts of the real ones (a settled entry cannot be settled again, a
document can be created once), which the level of stores holds the real ones to.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from dataclasses import replace

import orjson
from hitcounter.codec import build_batch, encode
from hitcounter.elastic import Indices
from hitcounter.entries import Entry, Settlement
from hitcounter.errors import IndexUnavailable, StreamUnavailable
from hitcounter.health import Readiness
from hitcounter.hits import Hit
from hitcounter.indices import TemplateCheck, TemplateState
from hitcounter.ledger import IndexerWork
from hitcounter.stream import StreamConsumer
from hitcounter_indexer.conditions import ELASTICSEARCH, REDIS
from hitcounter_indexer.documents import Action
from hitcounter_indexer.entry_writer import Observer
from hitcounter_indexer.indexer import Indexer
from hitcounter_indexer.metrics import create_metrics
from hitcounter_indexer.outcomes import INDEXED, ItemOutcome, ItemResult, read_item
from hitcounter_indexer.settings import IndexerSection
from prometheus_client import CollectorRegistry

PRODUCER = bytes(range(12))
NOW_MS = 1_795_507_200_000  # 2026-11-24T08:00:00Z
TODAY = "hits-2026.11.24"
YESTERDAY = "hits-2026.11.23"

DUPLICATE = ItemResult(ItemOutcome.DUPLICATE)
BUSY = ItemResult(ItemOutcome.RETRY, "es_rejected_execution_exception", "queue is full")
REFUSED = ItemResult(ItemOutcome.HOLD, "cluster_block_exception", "index is read-only", 403)
INVALID = ItemResult(ItemOutcome.HOLD, "strict_dynamic_mapping_exception", "a field too many", 400)
RED = read_item(
    {
        "status": 503,
        "error": {
            "type": "unavailable_shards_exception",
            "reason": "[hits-2026.11.23][0] primary shard is not active Timeout: [10s], request: [...]",
        },
    }
)
MISSING = ItemResult(ItemOutcome.RETRY, "index_not_found_exception", "the index was missing, and was created again")
SHARD_FULL = read_item(
    {
        "status": 400,
        "error": {
            "type": "illegal_argument_exception",
            "reason": "Number of documents in the shard cannot exceed [2147483519]; for more information, see [...]",
        },
    }
)
REJECTED = ItemResult(ItemOutcome.REJECT, "mapper_parsing_exception", "bad field")
REDIS_AWAY = StreamUnavailable("Redis does not answer")
SINK_AWAY = IndexUnavailable("Elasticsearch does not answer")

Journal = list[tuple[str, object]]
Rule = Callable[[str], ItemResult | None]
"""What to answer for a document of that id; None to store it."""


class FailsOnDemand:
    """Records its calls in the journal, and fails when told."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.failures: dict[str, list[Exception]] = {}

    def fail(self, call: str, *errors: Exception) -> None:
        """Let the next calls fail with these errors, one after the other."""
        self.failures.setdefault(call, []).extend(errors)

    def _note(self, call: str, about: object) -> None:
        self.journal.append((call, about))
        self._fail_if_told(call)

    def _fail_if_told(self, call: str) -> None:
        if errors := self.failures.get(call):
            raise errors.pop(0)


class FakeConsumer(FailsOnDemand, StreamConsumer):
    """The stream of one group in memory, as its consumers see it."""

    def __init__(self, journal: Journal) -> None:
        super().__init__(journal)
        self.queued: deque[Entry] = deque()
        self.silent: deque[Entry] = deque()
        self.pending: dict[str, Entry] = {}
        self.settlements: dict[str, Settlement] = {}
        self.renewed: list[list[str]] = []
        self.handed_over: list[str] = []
        self.booked: list[IndexerWork] = []
        self.has_left: bool | None = None
        self.readers = 0
        self.most_readers = 0
        """The most reads that were ever under way at once."""
        self._arrived = asyncio.Event()
        self._sequence = 0

    def add(self, *hits: Hit, **changes: object) -> Entry:
        """Queue an entry with these hits; `changes` go into the entry as it is delivered."""
        self._sequence += 1
        payload = encode(build_batch(PRODUCER, self._sequence, hits))
        return self.add_entry(Entry(f"{self._sequence}-0", payload, len(hits)), **changes)

    def add_entry(self, entry: Entry, **changes: object) -> Entry:
        changed = replace(entry, **changes)  # type: ignore[arg-type]  # fields of Entry
        self.queued.append(changed)
        self._arrived.set()
        return changed

    async def ensure_group(self) -> bool:
        self._note("group", None)
        return False

    async def read(self, consumer: str, *, count: int, block_ms: int) -> list[Entry]:
        self._note("read", count)
        self.readers += 1
        self.most_readers = max(self.most_readers, self.readers)
        try:
            if not self.queued and block_ms:
                self._arrived.clear()
                await asyncio.wait_for(self._arrived.wait(), block_ms / 1000)
        except TimeoutError:
            return []
        finally:
            self.readers -= 1
        return self._deliver(self.queued, count)

    async def reclaim(self, consumer: str, *, min_idle_ms: int, count: int) -> list[Entry]:
        self._fail_if_told("reclaim")
        return self._deliver(self.silent, count)

    async def find_pending(self, entry_ids: Sequence[str]) -> set[str]:
        self._fail_if_told("find pending")
        return {*entry_ids} & self.pending.keys()

    async def renew(self, consumer: str, entry_ids: Sequence[str]) -> None:
        self._fail_if_told("renew")
        self.renewed.append(list(entry_ids))

    async def hand_over(self, consumer: str, entry_ids: Sequence[str], *, idle_ms: int) -> None:
        self._fail_if_told("hand over")
        self.handed_over += entry_ids
        for entry_id in entry_ids:
            if entry := self.pending.pop(entry_id, None):
                self.silent.append(replace(entry, deliveries=entry.deliveries + 1))

    async def settle(self, settlements: Sequence[Settlement]) -> list[str]:
        self._note("settle", [settlement.entry_id for settlement in settlements])
        ours = [settlement for settlement in settlements if self.pending.pop(settlement.entry_id, None)]
        self.settlements |= {settlement.entry_id: settlement for settlement in ours}
        return [settlement.entry_id for settlement in ours]

    async def book_work(self, work: IndexerWork) -> None:
        self._note("book", work)
        self.booked.append(work)

    async def leave(self, consumer: str) -> bool:
        self._fail_if_told("leave")
        self.has_left = not self.pending
        return self.has_left

    def _deliver(self, entries: deque[Entry], count: int) -> list[Entry]:
        delivered = [entries.popleft() for _ in range(min(count, len(entries)))]
        self.pending |= {entry.entry_id: entry for entry in delivered}
        return delivered


class FakeSink:
    """A place for documents that answers by a rule, fails on demand, and can be made to wait."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.documents: dict[str, tuple[str, int]] = {}
        """The id and n of each stored document, by the document's own id."""
        self.rule: Rule = lambda _id: None
        self.failures: list[Exception] = []
        self.flush_failures: list[Exception] = []
        self.max_documents = 1_000_000
        self.max_in_time = 1_000_000
        """How many documents it writes before its client has given it up."""
        self.silent_indices: set[str] = set()
        """A request with a document for one of them gets no answer, and nothing of it is written."""
        self.gate = asyncio.Event()
        self.gate.set()
        self.under_way = 0

    async def write(self, actions: Sequence[Action]) -> list[ItemResult]:
        documents = [_read(action) for action in actions]
        self.journal.append(("write", [id_ for _, id_, _ in documents]))
        self.under_way += 1
        try:
            await self.gate.wait()
        finally:
            self.under_way -= 1
        if len(actions) > self.max_documents:
            raise IndexUnavailable("the bulk is too large", status=413)
        if self.silent_indices & {action.index_name for action in actions}:
            await asyncio.sleep(0.03)
            raise SINK_AWAY
        if self.failures:
            raise self.failures.pop(0)
        results = [self._store(*document) for document in documents]
        if len(actions) > self.max_in_time:
            raise SINK_AWAY
        return results

    async def flush(self, indices: Collection[str]) -> None:
        self.journal.append(("flush", sorted(indices)))
        if self.flush_failures:
            raise self.flush_failures.pop(0)

    def _store(self, document_id: str, id_: str, n: int) -> ItemResult:
        if result := self.rule(id_):
            return result
        if document_id in self.documents:
            return DUPLICATE
        self.documents[document_id] = (id_, n)
        return INDEXED


class FakeIndices(Indices):
    """Indices that are always there, unless told to fail."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.prefix = "hits"
        self.failures: list[Exception] = []
        self.refusals: dict[str, Exception] = {}
        """By index; or by "template"."""
        self.refreshed: list[str] = []

    async def ensure_template(self) -> TemplateCheck:
        self._note("template", None)
        self._refuse("template")
        return TemplateCheck(TemplateState.SAME, [])

    async def ensure(self, indices: Collection[str]) -> None:
        self._note("indices", list(indices))
        for index in indices:
            self._refuse(index)

    async def refresh(self, days: Collection[str]) -> None:
        self._note("refresh", None)
        self.refreshed = sorted(days)

    def _refuse(self, name: str) -> None:
        if refusal := self.refusals.get(name):
            raise refusal

    def _note(self, call: str, about: object) -> None:
        self.journal.append((call, about))
        if self.failures:
            raise self.failures.pop(0)


class Rig:
    """An indexer between fakes, with all there is to look at."""

    def __init__(self) -> None:
        self.journal: Journal = []
        self.stream = FakeConsumer(self.journal)
        self.sink = FakeSink(self.journal)
        self.indices = FakeIndices(self.journal)
        self.readiness = Readiness(REDIS, ELASTICSEARCH)
        self.registry = CollectorRegistry()
        self._metrics = create_metrics(self.registry)

    def indexer(self, *, observer: Observer | None = None, **settings: float) -> Indexer:
        """Build the indexer; waits are short unless said otherwise."""
        return Indexer(
            consumer="me",
            stream=self.stream,
            sink=self.sink,
            indices=self.indices,
            settings=IndexerSection.model_validate({"block_ms": 10, "bulk_max_age_ms": 0, **settings}),
            metrics=self._metrics,
            readiness=self.readiness,
            observer=observer,
        )

    def calls(self, *names: str) -> list[tuple[str, object]]:
        """Return the journal's entries of these names, in order."""
        return [(name, about) for name, about in self.journal if name in names]

    @property
    def writes(self) -> list[object]:
        """The ids in each bulk, in order."""
        return [ids for _, ids in self.calls("write")]

    @property
    def counts(self) -> dict[str, int]:
        """What is stored, summed by id."""
        sums: dict[str, int] = {}
        for id_, n in self.sink.documents.values():
            sums[id_] = sums.get(id_, 0) + n
        return sums

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


@contextlib.asynccontextmanager
async def running(indexer: Indexer) -> AsyncIterator[asyncio.Task[None]]:
    """Run the indexer during the block, then stop it and wait for its end."""
    task = asyncio.create_task(indexer.run())
    try:
        yield task
    finally:
        indexer.stop()
        async with asyncio.timeout(5):
            await task


def answers(*results: ItemResult, ids: Collection[str]) -> Rule:
    """Return a rule that gives these answers to documents of the ids, one after the other, and then stores them."""
    waiting: dict[str, Iterator[ItemResult]] = {id_: iter(results) for id_ in ids}
    return lambda id_: next(waiting[id_], None) if id_ in waiting else None


async def until(condition: Callable[[], object], timeout_seconds: float = 5.0) -> None:
    """Wait until the condition holds."""
    async with asyncio.timeout(timeout_seconds):
        while not condition():  # noqa: ASYNC110 - any condition, without an event of its own
            await asyncio.sleep(0.001)


def _read(action: Action) -> tuple[str, str, int]:
    create, document, _ = action.lines.split(b"\n")
    fields = orjson.loads(document)
    return orjson.loads(create)["create"]["_id"], fields["id"], fields["n"]
