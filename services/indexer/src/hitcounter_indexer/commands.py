"""The commands for dead letters and for entries in flight. Each prints its result and returns the exit status."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

from hitcounter.codec import decode
from hitcounter.entries import Entry, Settlement, StoredDeadLetter
from hitcounter.errors import EntryTooNew, UndecodableEntry
from hitcounter.stream import DeadLetters, HitStream

_PAGE = 100
ALL = "all"

_T = TypeVar("_T")


# ── dead letters ────────────────────────────────────────────────────────────────────────────────────────────────────


async def list_dead_letters(letters: DeadLetters) -> int:
    """Print one line for each dead letter, oldest first."""
    count = hits = 0
    async for stored in _walk_dead_letters(letters):
        count += 1
        hits += stored.letter.hits
        sys.stdout.write(
            f"{stored.letter_id:>20}  {_time_of(stored.letter_id)}  {stored.letter.hits:>6} hits  "
            f"{stored.letter.reason}: {stored.letter.detail[:120]}\n"
        )
    sys.stdout.write(f"{count:,} dead letters with {hits:,} hits\n")
    return 0


async def show_dead_letter(letters: DeadLetters, letter_id: str) -> int:
    """Print one dead letter completely, as JSON."""
    stored = await letters.find(letter_id)
    if stored is None:
        return _print_missing("dead letter", letter_id, "dead-letters list shows them")
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


async def replay_dead_letters(letters: DeadLetters, letter_id: str) -> int:
    """Move one dead letter, or all current ones, back into the backlog."""
    wanted = [letter_id] if letter_id != ALL else [stored.letter_id async for stored in _walk_dead_letters(letters)]
    moved = sum([await letters.replay(wanted_id) for wanted_id in wanted])
    if not moved and letter_id != ALL:
        return _print_missing("dead letter", letter_id, "dead-letters list shows them")
    sys.stdout.write(f"{moved:,} dead letters are back in the backlog\n")
    return 0


async def discard_dead_letter(letters: DeadLetters, letter_id: str) -> int:
    """Delete one dead letter permanently. Its hits still count as dead."""
    if not await letters.discard(letter_id):
        return _print_missing("dead letter", letter_id, "dead-letters list shows them")
    sys.stdout.write(f"discarded {letter_id}\n")
    return 0


def _walk_dead_letters(letters: DeadLetters) -> AsyncIterator[StoredDeadLetter]:
    return _walk(letters.list_page, lambda stored: stored.letter_id)


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


# ── entries in flight ───────────────────────────────────────────────────────────────────────────────────────────────


async def list_entries(stream: HitStream, *, older_than_seconds: float) -> int:
    """Print one line for each entry in flight of at least this age, oldest first, and why it may wait."""
    now_ms = (await stream.monitor.status()).now_ms
    count = hits = 0
    async for pending in _walk(stream.monitor.list_pending, lambda pending: pending.entry_id):
        age_seconds = (now_ms - pending.time_ms) / 1000
        if age_seconds <= older_than_seconds:
            break
        entry = await stream.monitor.find_entry(pending.entry_id)
        if entry is None:  # settled since
            continue
        count += 1
        hits += entry.hits
        sys.stdout.write(
            f"{pending.entry_id:>20}  {age_seconds:>8.0f} s old  {entry.hits:>6} hits  "
            f"{pending.deliveries:>4} deliveries, the last {pending.idle_ms / 1000:.0f} s ago to {pending.consumer}: "
            f"{_explain(entry)}\n"
        )
    sys.stdout.write(f"{count:,} entries with {hits:,} hits are in flight for longer than {older_than_seconds:g} s\n")
    return 0


async def reject_entry(stream: HitStream, entry_id: str) -> int:
    """Make an entry in flight a dead letter, so that nothing waits for it. It can be replayed later."""
    entry = await stream.monitor.find_entry(entry_id)
    if entry is None:
        return _print_missing("entry", entry_id, "entries list shows those that wait")
    settlement = Settlement.reject(entry, "rejected", "by hitcounter-indexer entries reject")
    if not await stream.consumer.settle([settlement]):
        sys.stderr.write(f"entry {entry_id} is not in flight: it is queued, and an indexer has yet to read it\n")
        return 1
    sys.stdout.write(f"rejected {entry_id}: its {entry.hits:,} hits are a dead letter\n")
    return 0


def _explain(entry: Entry) -> str:
    """Return why the entry may not be settled yet."""
    try:
        decode(entry.payload)
    except EntryTooNew as error:
        return f"for a newer indexer ({error})"
    except UndecodableEntry as error:
        return f"unreadable, and a dead letter at its next delivery ({error})"
    return "readable; the indexers' logs and /readyz say what they wait for"


# ── both ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _walk(list_page: Callable[..., Awaitable[list[_T]]], id_of: Callable[[_T], str]) -> AsyncIterator[_T]:
    """Yield all items of a stream, page by page."""
    after = None
    while page := await list_page(after=after, count=_PAGE):
        for item in page:
            yield item
        after = id_of(page[-1])


def _print_missing(what: str, id_: str, hint: str) -> int:
    sys.stderr.write(f"there is no {what} {id_}; hitcounter-indexer {hint}\n")
    return 1
