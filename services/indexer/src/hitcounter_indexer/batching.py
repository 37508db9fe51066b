"""Which documents of which entries are still on their way. Pure.

A turn of the indexer takes some entries and brings every document of theirs to its end; an entry whose documents have
all found theirs can be settled, while others may need another try.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from hitcounter.entries import DeadLetter, Entry, Settlement

from hitcounter_indexer.documents import Action
from hitcounter_indexer.outcomes import ItemOutcome, ItemResult

READ_MAX_ENTRIES = 100
"""The most entries in one read whose sizes can be judged by those read just before."""
BLIND_READ_MAX_ENTRIES = 10
"""The most entries in one read that may be of any size: ten of the largest take about 70 MB while they are decoded."""

_BULK_LEAST_DOCUMENTS = 100
"""Where an Elasticsearch cannot write these in time, fewer would not help it: each bulk has a cost of its own."""

_BULK_GROWTH_STEPS = 20

_DETAIL_MAX_LENGTH = 1000


@dataclass(slots=True)
class EntryProgress:
    """How far one entry is."""

    entry: Entry
    open: int
    """Documents still to be written."""
    indexed: int = 0
    duplicate: int = 0
    rejected: dict[str, tuple[str, list[Action]]] = field(default_factory=dict)
    """The documents that can never be stored, by reason, with the first one's detail as the example."""

    def build_settlement(self) -> Settlement:
        """Return how its hits ended; only for an entry with nothing open.

        Each letter carries the payload, and Elasticsearch's details name the document: one for each detail would
        make ten thousand copies of the largest entry.
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
    """An action that has not found its end, with the entry it belongs to."""

    action: Action
    progress: EntryProgress

    @property
    def is_redelivered(self) -> bool:
        """True where an earlier delivery of this entry may have written the document.

        Without a key that is the only way to find it there: deliveries are not even to be trusted, since they start
        anew when the consumer group was lost.
        """
        return self.progress.entry.deliveries > 1 or not self.action.is_keyed


class BulkSize:
    """How many documents a bulk may have at present.

    A bulk that takes longer than its time-out is written for nothing: Elasticsearch goes on with it while the same
    documents are sent once more, and so may the next take too long. So bulks become smaller while answers fail to come,
    until each is done in its time, and grow again afterwards: slowly, for the next one too large costs a time-out.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._least = min(most, _BULK_LEAST_DOCUMENTS)
        self.documents = most

    def shrink(self) -> None:
        """Be more careful: a bulk had no answer."""
        self.documents = max(self._least, self.documents // 2)

    def grow(self) -> None:
        """Be bolder: all bulks of an attempt were answered."""
        self.documents = min(self._most, self.documents + max(1, self._most // _BULK_GROWTH_STEPS))


class Work:
    """The documents of one turn.

    Attributes:
        open: those that are still to be written.
        left: the ids of the entries that have documents which were left aside, by the index of these.
    """

    def __init__(self, entries: Sequence[tuple[Entry, Sequence[Action]]]) -> None:
        self.left: dict[str, list[str]] = {}
        self._left_ids: set[str] = set()
        self._last_indices: dict[str, None] | None = None
        self._unsettled = [EntryProgress(entry, len(actions)) for entry, actions in entries]
        self.open = [
            OpenAction(action, progress)
            for progress, (_, actions) in zip(self._unsettled, entries, strict=True)
            for action in actions
        ]

    @property
    def unsettled(self) -> list[Entry]:
        """The entries that are not settled, without those that were left aside."""
        return [progress.entry for progress in self._unsettled if progress.entry.entry_id not in self._left_ids]

    def leave_aside(self, is_to_leave: Callable[[str], bool]) -> list[Action]:
        """Take the documents of some indices out of the open ones, for the rest of the turn; return them."""
        aside = [item for item in self.open if is_to_leave(item.action.index_name)]
        if aside:
            self.open = [item for item in self.open if not is_to_leave(item.action.index_name)]
        for item in aside:
            entry_id = item.progress.entry.entry_id
            if entry_id not in self._left_ids:
                self._left_ids.add(entry_id)
                self.left.setdefault(item.action.index_name, []).append(entry_id)
        return [item.action for item in aside]

    def split_by_index(self, last: Collection[str]) -> None:
        """From now on let each bulk hold one index only, these behind all others."""
        self._last_indices = {index: None for index in self._last_indices or () if index not in last} | dict.fromkeys(
            sorted(last)
        )

    def note(self, chunk: Sequence[OpenAction], results: Sequence[ItemResult]) -> None:
        """Book the results of a chunk; what has to be tried again goes back to the open ones."""
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
        """Return what is open in bulks that respect both limits (a single document may exceed the bytes).

        What is not noted as done, or as open again, is lost to this turn.
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
        """Return the settlements of the entries that have just got nothing open any more."""
        finished = [progress.build_settlement() for progress in self._unsettled if progress.open == 0]
        self._unsettled = [progress for progress in self._unsettled if progress.open > 0]
        return finished


def next_read_count(hits_wanted: int, hits_per_entry: float, most: int) -> int:
    """Return how many entries to ask for when they are of about this size."""
    return max(1, min(most, round(hits_wanted / max(1.0, hits_per_entry))))
