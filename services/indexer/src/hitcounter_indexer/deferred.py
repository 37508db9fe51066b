"""Entries that stay pending until the circuit breaker of an index closes. Pure.

Their consumer keeps renewing its claim on them. Otherwise another indexer would reclaim them only to skip them again,
and each attempt costs a cycle and writes their other documents again. If the indexer dies, they are reclaimed like any
other entry.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

DEFERRED_MAX_ENTRIES: Final = 10_000
"""Maximum number of entries that an indexer remembers (a few MB). Further ones are forgotten and reclaimed later."""


class DeferredEntries:
    """The ids of these entries, by the index that they wait for."""

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
        """The indices that entries wait for."""
        return list(self._ids)

    @property
    def is_full(self) -> bool:
        """True if no more entries can be remembered."""
        return len(self) >= DEFERRED_MAX_ENTRIES

    def add(self, index: str, entry_ids: Sequence[str]) -> None:
        """Remember these entries, up to the limit."""
        if remembered := entry_ids[: max(0, DEFERRED_MAX_ENTRIES - len(self))]:
            self._ids.setdefault(index, {}).update(dict.fromkeys(remembered))

    def take(self, index: str) -> list[str]:
        """Return the entries that wait for this index, and remove them."""
        return list(self._ids.pop(index, ()))
