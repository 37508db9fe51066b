"""Entries that are left pending until the circuit breaker of an index closes. Pure.

Their consumer goes on claiming them, so that nobody reclaims them meanwhile only to leave them again: a look at an
entry costs a turn, and writes once more whatever else is in it. If the indexer dies they are reclaimed like any others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

LEFT_MAX_ENTRIES: Final = 10_000
"""The most entries that one indexer remembers: a few MB. Further ones it forgets, and they are reclaimed in between."""


class LeftEntries:
    """The ids of such entries, by the index they wait for."""

    def __init__(self) -> None:
        self._ids: dict[str, dict[str, None]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._ids.values()))

    def __contains__(self, entry_id: str) -> bool:
        return any(entry_id in ids for ids in self._ids.values())

    def __iter__(self) -> Iterator[str]:
        return (entry_id for ids in self._ids.values() for entry_id in ids)

    @property
    def indices(self) -> list[str]:
        """What is waited for."""
        return list(self._ids)

    @property
    def is_full(self) -> bool:
        """True where no more are remembered."""
        return len(self) >= LEFT_MAX_ENTRIES

    def add(self, index: str, entry_ids: Sequence[str]) -> None:
        """Remember these entries, as far as there is room."""
        if remembered := entry_ids[: max(0, LEFT_MAX_ENTRIES - len(self))]:
            self._ids.setdefault(index, {}).update(dict.fromkeys(remembered))

    def take(self, index: str) -> list[str]:
        """Return the entries that wait for this index, and forget them."""
        return list(self._ids.pop(index, ()))
