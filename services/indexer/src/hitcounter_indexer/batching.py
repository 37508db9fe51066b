"""Tracks which documents of which entries are not done yet. Pure.

A cycle of the indexer writes all documents of some entries. An entry whose documents are all done can be settled, while
documents of other entries may need a retry.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from hitcounter.entries import DeadLetter, Entry, Settlement

from hitcounter_indexer.documents import Action
from hitcounter_indexer.outcomes import ItemOutcome, ItemResult

READ_MAX_ENTRIES = 100
"""Maximum number of entries in one read if the previous read shows how large entries are."""
BLIND_READ_MAX_ENTRIES = 10
"""Maximum number of entries in one read if they can have any size: ten of the largest take about 70 MB when decoded."""

_BULK_MIN_DOCUMENTS = 100
"""The minimum size of a bulk: if Elasticsearch cannot write this in time, smaller ones do not help."""

_BULK_GROWTH_STEPS = 20

_DETAIL_MAX_LENGTH = 1000


@dataclass(slots=True)
class EntryProgress:
    """The progress of one entry."""

    entry: Entry
    open: int
    """Documents that are not written yet."""
    indexed: int = 0
    duplicate: int = 0
    rejected: dict[str, tuple[str, list[Action]]] = field(default_factory=dict)
    """The documents that can never be stored, by reason, with the detail of the first one as an example."""

    def build_settlement(self) -> Settlement:
        """Return the result of its hits; only for an entry without open documents.

        There is one dead letter per reason, not per detail: each contains the payload, and details contain the document
        id, so one per detail could make ten thousand copies of the largest entry.
        """
        letters = [
            DeadLetter(
                reason,
                detail,
                hits=sum(action.hits for action in actions),
                payload=self.entry.payload,
                positions=[action.position for action in actions],
            )
            for reason, (detail, actions) in self.rejected.items()
        ]
        return Settlement(self.entry.entry_id, self.indexed, self.duplicate, letters)


@dataclass(frozen=True, slots=True)
class OpenAction:
    """An action that is not done, with the entry it belongs to."""

    action: Action
    progress: EntryProgress

    @property
    def is_redelivered(self) -> bool:
        """True if an earlier delivery of this entry may have written the document.

        For a hit without a key, that is the only way in which its document can exist already. The number of deliveries
        alone is not reliable, because it starts again when the consumer group is lost.
        """
        return self.progress.entry.deliveries > 1 or not self.action.is_keyed


class BulkSize:
    """The current maximum number of documents in a bulk.

    A bulk that exceeds its timeout is wasted work: Elasticsearch continues with it while the same documents are sent
    again, so the next bulk may take too long, too. So bulks become smaller while responses are missing, until each one
    finishes in time. Afterwards they grow again, slowly, because each bulk that is too large costs a timeout
    (decision 20).
    """

    def __init__(self, max_documents: int) -> None:
        self._max_documents = max_documents
        self._min_documents = min(max_documents, _BULK_MIN_DOCUMENTS)
        self.documents = max_documents

    def shrink(self) -> None:
        """Make bulks smaller, because one got no response."""
        self.documents = max(self._min_documents, self.documents // 2)

    def grow(self) -> None:
        """Make bulks larger, because all bulks of an attempt got a response."""
        self.documents = min(self._max_documents, self.documents + max(1, self._max_documents // _BULK_GROWTH_STEPS))


class Work:
    """The documents of one cycle.

    Attributes:
        open: those that are not written yet.
        deferred: the ids of entries with skipped documents, by the index of these documents.
    """

    def __init__(self, entries: Sequence[tuple[Entry, Sequence[Action]]]) -> None:
        self.deferred: dict[str, list[str]] = {}
        self._deferred_ids: set[str] = set()
        self._last_indices: dict[str, None] | None = None
        self._unsettled = [EntryProgress(entry, len(actions)) for entry, actions in entries]
        self.open = [
            OpenAction(action, progress)
            for progress, (_, actions) in zip(self._unsettled, entries, strict=True)
            for action in actions
        ]

    @property
    def unsettled(self) -> list[Entry]:
        """The entries that are not settled, except those with skipped documents."""
        return [progress.entry for progress in self._unsettled if progress.entry.entry_id not in self._deferred_ids]

    def defer(self, is_open: Callable[[str], bool]) -> list[OpenAction]:
        """Skip the open documents of the indices whose circuit breaker is open; return them."""
        skipped = [item for item in self.open if is_open(item.action.index_name)]
        if skipped:
            self.open = [item for item in self.open if not is_open(item.action.index_name)]
        for item in skipped:
            entry_id = item.progress.entry.entry_id
            if entry_id not in self._deferred_ids:
                self._deferred_ids.add(entry_id)
                self.deferred.setdefault(item.action.index_name, []).append(entry_id)
        return skipped

    def split_by_index(self, last: Collection[str]) -> None:
        """From now on put only one index in each bulk, and these indices last."""
        self._last_indices = {index: None for index in self._last_indices or () if index not in last} | dict.fromkeys(
            sorted(last)
        )

    def note(self, chunk: Sequence[OpenAction], results: Sequence[ItemResult]) -> None:
        """Record the results of a chunk. Documents that must be retried become open again."""
        for item, result in zip(chunk, results, strict=True):
            progress, hits = item.progress, item.action.hits
            match result.outcome:
                case ItemOutcome.INDEXED:
                    progress.indexed += hits
                case ItemOutcome.DUPLICATE:
                    progress.duplicate += hits
                case ItemOutcome.REJECT:
                    detail = result.detail[:_DETAIL_MAX_LENGTH]
                    progress.rejected.setdefault(result.reason, (detail, []))[1].append(item.action)
                case ItemOutcome.RETRY | ItemOutcome.HOLD:
                    self.open.append(item)
                    continue
            progress.open -= 1

    def take_chunks(self, max_documents: int, max_bytes: int) -> list[list[OpenAction]]:
        """Return the open documents in chunks within both limits (a single document may exceed max_bytes).

        Call `note` for every chunk: documents without a result are lost for this cycle.
        """
        todo, self.open = self.open, []
        is_split = self._last_indices is not None
        if self._last_indices is not None:
            rank = {index: number for number, index in enumerate(self._last_indices, 1)}
            todo.sort(key=lambda item: (rank.get(item.action.index_name, 0), item.action.index_name))
        chunks: list[list[OpenAction]] = []
        chunk: list[OpenAction] = []
        size = 0
        for item in todo:
            if chunk and (
                len(chunk) == max_documents
                or size + len(item.action.lines) > max_bytes
                or (is_split and item.action.index_name != chunk[-1].action.index_name)
            ):
                chunks.append(chunk)
                chunk, size = [], 0
            chunk.append(item)
            size += len(item.action.lines)
        return [*chunks, chunk] if chunk else chunks

    def take_finished(self) -> list[Settlement]:
        """Return the settlements of entries without open documents, and remove these entries."""
        finished = [progress.build_settlement() for progress in self._unsettled if progress.open == 0]
        self._unsettled = [progress for progress in self._unsettled if progress.open > 0]
        return finished


def next_read_count(hits_wanted: int, hits_per_entry: float, max_entries: int) -> int:
    """Return how many entries to read if they have about this size."""
    return max(1, min(max_entries, round(hits_wanted / max(1.0, hits_per_entry))))
