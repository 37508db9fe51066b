"""The commands for entries in flight: list old ones, reject one. Each prints its result and returns the exit status."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

from hitcounter.codec import decode
from hitcounter.entries import DeadLetter, Entry, PendingEntry, Settlement
from hitcounter.errors import EntryTooNew, UndecodableEntry
from hitcounter.stream import HitStream

_PAGE = 100


async def list_entries(stream: HitStream, *, older_than_seconds: float) -> int:
    """Print one line for each entry in flight of at least this age, oldest first, and why it may wait."""
    now_ms = (await stream.monitor.status()).now_ms
    count = hits = 0
    async for pending in _walk(stream, before_ms=now_ms - int(older_than_seconds * 1000)):
        entry = await stream.monitor.find_entry(pending.entry_id)
        if entry is None:  # settled since
            continue
        count += 1
        hits += entry.hits
        sys.stdout.write(
            f"{pending.entry_id:>20}  {(now_ms - pending.time_ms) / 1000:>8.0f} s old  {entry.hits:>6} hits  "
            f"{pending.deliveries:>4} deliveries, the last {pending.idle_ms / 1000:.0f} s ago to {pending.consumer}: "
            f"{_explain(entry)}\n"
        )
    sys.stdout.write(f"{count:,} entries with {hits:,} hits are in flight for longer than {older_than_seconds:g} s\n")
    return 0


async def reject_entry(stream: HitStream, entry_id: str) -> int:
    """Make an entry in flight a dead letter, so that nothing waits for it. It can be replayed later."""
    entry = await stream.monitor.find_entry(entry_id)
    if entry is None:
        sys.stderr.write(f"there is no entry {entry_id}; hitcounter-indexer entries list shows those that wait\n")
        return 1
    positions = None if entry.positions is None else sorted(entry.positions)
    letter = DeadLetter("rejected", "by hitcounter-indexer entries reject", entry.hits, entry.payload, positions)
    if not await stream.consumer.settle([Settlement(entry.entry_id, dead_letters=[letter])]):
        sys.stderr.write(f"entry {entry_id} is not in flight: it is queued, and an indexer has yet to read it\n")
        return 1
    sys.stdout.write(f"rejected {entry_id}: its {entry.hits:,} hits are a dead letter\n")
    return 0


async def _walk(stream: HitStream, *, before_ms: int) -> AsyncIterator[PendingEntry]:
    after = None
    while page := await stream.monitor.list_pending(after=after, count=_PAGE):
        for pending in page:
            if pending.time_ms >= before_ms:
                return
            yield pending
        after = page[-1].entry_id


def _explain(entry: Entry) -> str:
    """Return why the entry may not be settled yet."""
    try:
        decode(entry.payload)
    except EntryTooNew as error:
        return f"for a newer indexer ({error})"
    except UndecodableEntry as error:
        return f"unreadable, and a dead letter at its next delivery ({error})"
    return "readable; the indexers' logs and /readyz say what they wait for"
