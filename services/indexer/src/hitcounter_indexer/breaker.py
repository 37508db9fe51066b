"""A circuit breaker for each index. Pure: the clock is an argument.

An index that refuses documents while other indices accept theirs must not delay the others. Its circuit breaker opens,
and its documents are skipped and not sent. While the breaker is open, the indexer probes the index from time to time
(the half-open state of the pattern). The first document that the index accepts closes the breaker.

If no index accepts documents, no breaker opens, and the indexer waits: this is backpressure. An index that is only
overloaded (429) does not count as refusing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from hitcounter_indexer.documents import Action

OPEN_AFTER_SECONDS: Final = 1.0
"""How long an index must refuse everything before its breaker opens. An index that was just recreated needs a moment.
"""
PROBE_SECONDS: Final = 5.0
"""Time between two probes."""
_PROBE_DOCUMENTS: Final = 10
"""Maximum number of documents in a probe: with several, one invalid document cannot keep the breaker open."""
_REMEMBERED_INDICES: Final = 32
"""More than the number of indices that hits can belong to within a few days."""


@dataclass(slots=True)
class _OpenBreaker:
    probe_at: float
    probes: deque[tuple[str, Action]] = field(default_factory=lambda: deque(maxlen=_PROBE_DOCUMENTS))


class CircuitBreakers:
    """The breakers of one indexer.

    Args:
        clock: returns seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._open: dict[str, _OpenBreaker] = {}
        self._refusing_since: dict[str, float] = {}
        self._accepted_at: dict[str, float] = {}

    @property
    def open_count(self) -> int:
        """The number of indices whose documents must be skipped."""
        return len(self._open)

    def is_open(self, index: str) -> bool:
        """Return whether documents of this index must be skipped."""
        return index in self._open

    def has_accepted_since(self, index: str, time: float) -> bool:
        """Return whether the index has accepted a document since that time."""
        return self._accepted_at.get(index, -1.0) >= time

    def note_accepted(self, indices: Iterable[str]) -> None:
        """Record that these indices accepted documents now. This does not close an open breaker."""
        now = self._clock()
        for index in indices:
            self._accepted_at[index] = now
            self._refusing_since.pop(index, None)
        while len(self._accepted_at) > _REMEMBERED_INDICES:
            del self._accepted_at[min(self._accepted_at, key=self._accepted_at.__getitem__)]

    def note_unanswered(self, indices: Iterable[str], since: float) -> None:
        """Record that a request with documents of these indices got no response, without knowing which one is at fault.

        An index that accepts a document afterwards is not.
        """
        for index in indices:
            if index not in self._open:
                self._refusing_since.setdefault(index, since)

    def note_refused(self, index: str, since: float) -> bool:
        """Record that an index refused documents. Return True if this opened its breaker.

        Args:
            index: the index.
            since: when the request was sent.
        """
        if index in self._open:
            return False
        first = self._refusing_since.setdefault(index, since)
        if self._clock() - first < OPEN_AFTER_SECONDS:
            return False
        if not any(accepted_at >= first for other, accepted_at in self._accepted_at.items() if other != index):
            return False
        del self._refusing_since[index]
        self._open[index] = _OpenBreaker(self._clock() + PROBE_SECONDS)
        return True

    # ── probing ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def keep_for_probe(self, entry_id: str, action: Action) -> None:
        """Keep a skipped document for the next probe."""
        if breaker := self._open.get(action.index_name):
            breaker.probes.append((entry_id, action))

    def take_due_probes(self) -> dict[str, list[tuple[str, Action]]]:
        """Return the documents of the probes that are due, with the ids of their entries.

        The next probe of an index is due PROBE_SECONDS after `note_probed`.
        """
        now = self._clock()
        due = {
            index: list(breaker.probes)
            for index, breaker in self._open.items()
            if breaker.probe_at <= now and breaker.probes
        }
        for index in due:
            self._open[index].probe_at = float("inf")
        return due

    def note_probed(self, index: str, *, is_closing: bool) -> None:
        """Record that a probe has ended: close the breaker, or schedule the next probe."""
        if is_closing:
            del self._open[index]
        else:
            self._open[index].probe_at = self._clock() + PROBE_SECONDS
