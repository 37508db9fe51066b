"""The role of whoever looks at the queue: status, memory, audit, entries in flight. It changes nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Final, cast

from redis.exceptions import ResponseError

from hitcounter.entries import Entry, PendingEntry
from hitcounter.errors import StreamUnavailable
from hitcounter.ledger import Audit, IndexerWork, Ledger, StreamMemory, StreamStatus
from hitcounter.redis_client import is_forbidden, translate_redis_errors
from hitcounter.stream.connection import StreamConnection, is_group_lost
from hitcounter.stream.keys import GROUP
from hitcounter.stream.records import Items, build_entry

_LEDGER_FIELDS: Final = ("accepted", "indexed", "duplicate", "dead", "replayed")
_WORK_FIELDS: Final = ("busy_ms", "busy_hits", "pushed_back")
_AUDIT_MAX_ENTRIES: Final = 500
_AUDIT_MAX_BYTES: Final = 1024 * 1024
"""One call of the audit script stops at the first of these limits: it takes less than 2 ms in Redis."""


class StreamMonitor:
    """Reads the state of the stream, of the ledger and of Redis."""

    def __init__(self, connection: StreamConnection) -> None:
        self._connection = connection
        self._keys = connection.keys
        self._redis = connection.redis
        self._status = connection.load_script("status")
        self._audit = connection.load_script("audit")

    async def ping(self) -> None:
        """Check that Redis answers and does not evict hits.

        Raises:
            StreamUnavailable: Redis does not answer, or its maxmemory-policy may evict hits.
        """
        await self.memory()
        self._connection.check_policy()

    async def status(self) -> StreamStatus:
        """Return a consistent snapshot of ledger, stream, as-of and the clock of Redis, in constant time."""
        with translate_redis_errors("read the ledger"):
            found, entries, oldest, as_of, now_ms, in_flight, consumers = await self._status(
                [self._keys.stream, self._keys.ledger, self._keys.as_of], [GROUP, *_LEDGER_FIELDS, *_WORK_FIELDS]
            )
        counters = [int(counter or 0) for counter in found]
        return StreamStatus(
            ledger=Ledger(*counters[: len(_LEDGER_FIELDS)]),
            entries=entries,
            oldest_ms=_entry_time_ms(oldest) if oldest is not None else None,
            as_of_ms=int(as_of) if as_of is not None else None,
            now_ms=now_ms,
            entries_in_flight=in_flight,
            work=IndexerWork(*counters[len(_LEDGER_FIELDS) :]),
            indexers=consumers,
        )

    async def memory(self) -> StreamMemory:
        """Return memory and persistence of Redis. If it may evict hits, `append` fails from now on without asking."""
        with translate_redis_errors("read the memory of Redis"):
            try:
                info = await self._redis.info("memory", "persistence", "stats", "replication")  # several: Redis 7.0
            except ResponseError as error:
                if not is_forbidden(error):
                    raise
                info = {}
        self._connection.policy = str(info.get("maxmemory_policy", ""))
        policy_fault = ""
        try:
            self._connection.check_policy()
        except StreamUnavailable as error:
            policy_fault = str(error)
        capacity_bytes = info.get("maxmemory") or info.get("total_system_memory") or 0
        evicted_keys = info.get("evicted_keys")
        return StreamMemory(
            used_bytes=int(info.get("used_memory", 0)),
            capacity_bytes=int(capacity_bytes),
            policy_fault=policy_fault,
            is_aof_enabled=find_aof_enabled(info),
            evicted_keys=None if evicted_keys is None else int(evicted_keys),
        )

    async def list_pending(self, *, after: str | None = None, count: int = 100) -> list[PendingEntry]:
        """Return up to count entries in flight that follow the id, oldest first."""
        with translate_redis_errors("list the entries in flight"):
            try:
                found = await self._redis.xpending_range(
                    self._keys.stream, GROUP, min=f"({after}" if after else "-", max="+", count=count
                )
            except ResponseError as error:
                if not is_group_lost(error):
                    raise
                return []
        return [
            PendingEntry(
                cast("bytes", item["message_id"]).decode(),
                cast("bytes", item["consumer"]).decode(errors="replace"),
                int(item["time_since_delivered"]),
                int(item["times_delivered"]),
            )
            for item in found
        ]

    async def find_entry(self, entry_id: str) -> Entry | None:
        """Return the entry with that id, queued or in flight; None if it does not exist."""
        with translate_redis_errors("look up an entry"):
            found = cast("Items", await self._redis.xrange(self._keys.stream, min=entry_id, max=entry_id))
        return build_entry(*found[0]) if found else None

    async def audit(self) -> Audit:
        """Scan both streams completely, in small steps, and return what is there together with the ledger."""
        before = (await self.status()).ledger
        stream_hits = await self._count_hits(self._keys.stream) or 0
        dead_hits = await self._count_hits(self._keys.dead) or 0
        return Audit(before, (await self.status()).ledger, stream_hits, dead_hits)

    async def audit_backlog(self, *, max_seconds: float) -> int | None:
        """Scan only the stream of entries and return the difference to the ledger; 0 unless something is wrong.

        None if it would take longer than max_seconds.
        """
        before = (await self.status()).ledger
        stream_hits = await self._count_hits(self._keys.stream, max_seconds)
        if stream_hits is None:
            return None
        after = (await self.status()).ledger
        return Audit(before, after, stream_hits, dead_hits=after.dead).difference

    async def _count_hits(self, stream: str, max_seconds: float = math.inf) -> int | None:
        deadline = time.monotonic() + max_seconds
        hits, last = 0, b"-"
        with translate_redis_errors("walk over the stream"):
            while last:
                if time.monotonic() > deadline:
                    return None
                found, last = await self._audit([stream], [last, _AUDIT_MAX_ENTRIES, _AUDIT_MAX_BYTES])
                hits += found
        return hits


def find_aof_enabled(info: Mapping[str, object]) -> bool | None:
    """Return whether Redis writes an append-only file; None if its INFO does not say so.

    Redis switches the file off while it loads one at its start, and in a replica that gets its first copy. It accepts
    no hits then.
    """
    if info.get("loading") or info.get("role") == "slave" or "aof_enabled" not in info:
        return None
    return bool(info["aof_enabled"])


def _entry_time_ms(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])
