"""A circuit breaker for each index. Pure: the clock is handed in.

An index that refuses its documents while other indices take theirs must not hold up the others: its breaker opens, and
its documents are left aside at once instead of being sent. While it is open the indexer probes the index from time to
time (the half-open state of the pattern); the first document that it takes closes the breaker.

Where no index takes anything there is nothing to protect: no breaker opens, and the indexer waits. That is
back-pressure. Neither does an index that only has too much to do (429) count as refusing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from hitcounter_indexer.documents import Action

OPEN_AFTER_SECONDS: Final = 1.0
"""How long an index must have refused everything: an index that was just lost and made anew needs a moment."""
PROBE_SECONDS: Final = 5.0
"""How long after a probe comes the next one."""
_PROBE_DOCUMENTS: Final = 10
"""A probe sends this many at most: one document of its own fault must not keep a breaker open."""
_REMEMBERED_INDICES: Final = 32
"""More than the days that hits may be dated to, within a few days of running."""


@dataclass(slots=True)
class _OpenBreaker:
    reason: str
    probe_at: float
    probes: deque[Action] = field(default_factory=lambda: deque(maxlen=_PROBE_DOCUMENTS))


class CircuitBreakers:
    """The breakers of one indexer.

    Args:
        clock: returns seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._open: dict[str, _OpenBreaker] = {}
        self._refusing_since: dict[str, float] = {}
        self._took_at: dict[str, float] = {}

    @property
    def open_indices(self) -> dict[str, str]:
        """The indices whose breakers are open, and why each is."""
        return {index: breaker.reason for index, breaker in self._open.items()}

    @property
    def is_any_open(self) -> bool:
        """True where documents have to be left aside."""
        return bool(self._open)

    def is_open(self, index: str) -> bool:
        """Tell whether documents of this index are to be left aside."""
        return index in self._open

    def has_taken_since(self, index: str, time: float) -> bool:
        """Tell whether the index has taken a document since then."""
        return self._took_at.get(index, -1.0) >= time

    def note_taken(self, indices: Iterable[str]) -> None:
        """Note that these indices took documents just now. An open breaker is closed by a probe only."""
        now = self._clock()
        for index in indices:
            self._took_at[index] = now
            self._refusing_since.pop(index, None)
        while len(self._took_at) > _REMEMBERED_INDICES:
            del self._took_at[min(self._took_at, key=self._took_at.__getitem__)]

    def note_refused(self, index: str, reason: str, since: float) -> bool:
        """Note that an index refused what was sent to it; True if that opened its breaker.

        Args:
            index: the index.
            reason: what it said.
            since: when the request was sent.
        """
        if index in self._open:
            return False
        first = self._refusing_since.setdefault(index, since)
        if self._clock() - first < OPEN_AFTER_SECONDS:
            return False
        if not any(took_at >= first for other, took_at in self._took_at.items() if other != index):
            return False
        del self._refusing_since[index]
        self._open[index] = _OpenBreaker(reason, self._clock() + PROBE_SECONDS)
        return True

    # ── probing ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def keep_for_probe(self, action: Action) -> None:
        """Keep a document that was left aside: the next probe sends it."""
        if breaker := self._open.get(action.index_name):
            breaker.probes.append(action)

    def take_due(self) -> dict[str, list[Action]]:
        """Return the probes that are due; each index's next one is due PROBE_SECONDS after `note_probed`."""
        now = self._clock()
        due = {
            index: list(breaker.probes)
            for index, breaker in self._open.items()
            if breaker.probe_at <= now and breaker.probes
        }
        for index in due:
            self._open[index].probe_at = float("inf")
        return due

    def note_probed(self, index: str, *, is_taken: bool, reason: str = "") -> None:
        """Note how a probe ended; one that was taken closes the breaker."""
        if is_taken:
            del self._open[index]
            self.note_taken([index])
        else:
            self._open[index].reason = reason or self._open[index].reason
            self._open[index].probe_at = self._clock() + PROBE_SECONDS
