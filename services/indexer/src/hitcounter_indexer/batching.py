"""Which documents of which entries are still on their way. Pure.

A turn of the indexer takes some entries and brings every document of theirs to its end; an entry whose documents have
all found theirs can be settled, while others may need another try.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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


@dataclass(slots=True)
class EntryProgress:
    """How far one entry is."""

    entry: Entry
    open: int
    """Documents still to be written."""
    indexed: int = 0
    duplicate: int = 0
    rejected: dict[tuple[str, str], list[Action]] = field(default_factory=dict)
    """The documents that can never be stored, by reason and detail."""

    def build_settlement(self) -> Settlement:
        """Return how its hits ended; only for an entry with nothing open."""
        letters = [
            DeadLetter(
                reason,
                detail,
                hits=sum(action.hits for action in actions),
                payload=self.entry.payload,
                positions=[action.position for action in actions],
            )
            for (reason, detail), actions in self.rejected.items()
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
        open: those that have not found their end.
        too_new: the entries that only a newer indexer can read.
    """

    def __init__(self, entries: Sequence[tuple[Entry, Sequence[Action]]], too_new: Sequence[Entry] = ()) -> None:
        self.too_new = too_new
        self._unsettled = [EntryProgress(entry, len(actions)) for entry, actions in entries]
        self.open = [
            OpenAction(action, progress)
            for progress, (_, actions) in zip(self._unsettled, entries, strict=True)
            for action in actions
        ]

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
                    progress.rejected.setdefault((result.reason, result.detail), []).append(item.action)
                case ItemOutcome.RETRY | ItemOutcome.HOLD:
                    self.open.append(item)
                    continue
            progress.open -= 1

    def take_chunks(self, max_documents: int, max_bytes: int) -> Iterator[list[OpenAction]]:
        """Hand out what is open in bulks that respect both limits (a single document may exceed the bytes)."""
        todo, self.open = self.open, []
        chunk: list[OpenAction] = []
        size = 0
        for item in todo:
            if chunk and (len(chunk) == max_documents or size + len(item.action.lines) > max_bytes):
                yield chunk
                chunk, size = [], 0
            chunk.append(item)
            size += len(item.action.lines)
        if chunk:
            yield chunk

    def take_finished(self) -> list[Settlement]:
        """Return the settlements of the entries that have just got nothing open any more."""
        finished = [progress.build_settlement() for progress in self._unsettled if progress.open == 0]
        self._unsettled = [progress for progress in self._unsettled if progress.open > 0]
        return finished


def next_read_count(hits_wanted: int, hits_per_entry: float, most: int) -> int:
    """Return how many entries to ask for when they are of about this size."""
    return max(1, min(most, round(hits_wanted / max(1.0, hits_per_entry))))
