"""The commands for dead letters: list, show, replay, discard. Each prints its result and returns the exit status."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from hitcounter.codec import decode
from hitcounter.entries import StoredDeadLetter
from hitcounter.errors import EntryTooNew, UndecodableEntry
from hitcounter.stream import DeadLetters

_PAGE = 100
ALL = "all"


async def list_letters(letters: DeadLetters) -> int:
    """Print one line for each dead letter, oldest first."""
    count = hits = 0
    async for stored in _walk(letters):
        count += 1
        hits += stored.letter.hits
        sys.stdout.write(
            f"{stored.letter_id:>20}  {_time_of(stored.letter_id)}  {stored.letter.hits:>6} hits  "
            f"{stored.letter.reason}: {stored.letter.detail[:120]}\n"
        )
    sys.stdout.write(f"{count:,} dead letters with {hits:,} hits\n")
    return 0


async def show_letter(letters: DeadLetters, letter_id: str) -> int:
    """Print one dead letter completely, as JSON."""
    stored = await letters.find(letter_id)
    if stored is None:
        return _print_missing(letter_id)
    letter = stored.letter
    described = {
        "letter": stored.letter_id,
        "time": _time_of(stored.letter_id),
        "entry": stored.entry_id,
        "reason": letter.reason,
        "detail": letter.detail,
        "hits": letter.hits,
        "positions": letter.positions,
        "batch": letter.payload.hex(),
        "documents": _describe_hits(stored),
    }
    sys.stdout.write(json.dumps(described, indent=2, ensure_ascii=False) + "\n")
    return 0


async def replay_letters(letters: DeadLetters, letter_id: str) -> int:
    """Move one dead letter, or all current ones, back into the backlog."""
    wanted = [letter_id] if letter_id != ALL else [stored.letter_id async for stored in _walk(letters)]
    moved = sum([await letters.replay(wanted_id) for wanted_id in wanted])
    if not moved and letter_id != ALL:
        return _print_missing(letter_id)
    sys.stdout.write(f"{moved:,} dead letters are back in the backlog\n")
    return 0


async def discard_letter(letters: DeadLetters, letter_id: str) -> int:
    """Delete one dead letter permanently. Its hits still count as dead."""
    if not await letters.discard(letter_id):
        return _print_missing(letter_id)
    sys.stdout.write(f"discarded {letter_id}\n")
    return 0


async def _walk(letters: DeadLetters) -> AsyncIterator[StoredDeadLetter]:
    after = None
    while page := await letters.list_page(after=after, count=_PAGE):
        for stored in page:
            yield stored
        after = page[-1].letter_id


def _describe_hits(stored: StoredDeadLetter) -> list[dict[str, object]] | str:
    """Return the first hits of the documents that are dead, or why they cannot be read."""
    try:
        batch = decode(stored.letter.payload)
    except (UndecodableEntry, EntryTooNew) as error:
        return f"unreadable: {error}"
    positions = range(len(batch)) if stored.letter.positions is None else stored.letter.positions
    return [
        {"position": position, "id": batch.ids[position], "timestamp_ms": batch.times_ms[position]}
        for position in positions
        if position < len(batch)
    ]


def _time_of(letter_id: str) -> str:
    seconds = int(letter_id.partition("-")[0]) / 1000
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _print_missing(letter_id: str) -> int:
    sys.stderr.write(f"there is no dead letter {letter_id}; hitcounter-indexer dead-letters list shows them\n")
    return 1
