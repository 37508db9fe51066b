"""Parses the records of both streams: entries and dead letters. It defines the names of their fields. Pure."""

from __future__ import annotations

from typing import Final

from hitcounter.entries import DeadLetter, Entry, StoredDeadLetter

_FIELD_BATCH: Final = b"batch"
_FIELD_HITS: Final = b"hits"
_FIELD_POSITIONS: Final = b"positions"
_FIELD_ENTRY: Final = b"entry"
_FIELD_REASON: Final = b"reason"
_FIELD_DETAIL: Final = b"detail"
_NUMBER_MAX_DIGITS: Final = 6

Items = list[tuple[bytes, dict[bytes, bytes]]]
"""Records as redis-py returns them with RESP2. Its own type hints are less exact."""


def build_entry(entry_id: bytes, fields: dict[bytes, bytes], deliveries: int = 1) -> Entry:
    """Return an entry of the stream."""
    positions = _read_positions(fields)
    return Entry(
        entry_id=entry_id.decode(),
        payload=fields.get(_FIELD_BATCH, b""),
        hits=_read_hits(fields),
        positions=None if positions is None else frozenset(positions),
        deliveries=deliveries,
    )


def build_dead_letter(letter_id: bytes, fields: dict[bytes, bytes]) -> StoredDeadLetter:
    """Return a record of the stream of dead letters."""
    letter = DeadLetter(
        reason=fields.get(_FIELD_REASON, b"").decode(errors="replace"),
        detail=fields.get(_FIELD_DETAIL, b"").decode(errors="replace"),
        hits=_read_hits(fields),
        payload=fields.get(_FIELD_BATCH, b""),
        positions=_read_positions(fields),
    )
    return StoredDeadLetter(letter_id.decode(), fields.get(_FIELD_ENTRY, b"").decode(errors="replace"), letter)


def _read_hits(fields: dict[bytes, bytes]) -> int:
    hits = fields.get(_FIELD_HITS, b"")
    return int(hits) if _is_number(hits) else 0


def _read_positions(fields: dict[bytes, bytes]) -> list[int] | None:
    positions = fields.get(_FIELD_POSITIONS)
    return [int(position) for position in positions.split(b",") if _is_number(position)] if positions else None


def _is_number(text: bytes) -> bool:
    """Return whether the text is a number that hitcounter may have written; others can write to the stream, too."""
    return text.isdigit() and len(text) <= _NUMBER_MAX_DIGITS
