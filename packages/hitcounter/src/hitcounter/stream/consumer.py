"""The role of the indexer: it reads entries, keeps its claims on them, and settles them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, cast

from redis.exceptions import ResponseError

from hitcounter.entries import Entry, Settlement
from hitcounter.ledger import IndexerWork
from hitcounter.redis_client import translate_redis_errors
from hitcounter.stream.connection import StreamConnection, is_group_lost
from hitcounter.stream.keys import GROUP
from hitcounter.stream.records import Items, build_entry

RECLAIM_MAX_EXAMINED: Final = 10_000
"""Maximum number of pending entries that one `reclaim` examines: 100 calls of about 25 µs in Redis, each for 100
entries at the indexer's count of 10."""
_XAUTOCLAIM_ATTEMPTS: Final = 10
"""Redis examines this many entries for each one that XAUTOCLAIM may return."""
_FIRST: Final = b"0-0"
_SETTLE_MAX_BYTES: Final = 8 * 1024 * 1024
"""Dead letters contain their payloads. More bytes than this are sent in several calls."""


class StreamConsumer:
    """Reads and settles entries as consumers of the group, and administers the group."""

    def __init__(self, connection: StreamConnection) -> None:
        self._keys = connection.keys
        self._redis = connection.redis
        self._reclaim_cursor = _FIRST
        self._group = connection.load_script("group")
        self._settle = connection.load_script("settle")
        self._book = connection.load_script("book")
        self._leave = connection.load_script("leave")
        self._sweep = connection.load_script("sweep")

    async def ensure_group(self) -> bool:
        """Create stream and group, starting at the first entry, if missing; return whether they were missing."""
        with translate_redis_errors("create the consumer group"):
            return bool(await self._group([self._keys.stream], [GROUP]))

    async def read(self, consumer: str, *, count: int, block_ms: int) -> list[Entry]:
        """Return up to count new entries, oldest first; wait up to block_ms for the first one.

        Do not cancel it: entries in a response that is not read stay pending until they are reclaimed.
        """
        with translate_redis_errors("read the stream"):
            try:
                reply = await self._redis.xreadgroup(
                    GROUP, consumer, {self._keys.stream: ">"}, count=count, block=block_ms or None
                )
            except ResponseError as error:
                if not is_group_lost(error):
                    raise
                reply = None
        if reply is None:
            await self.ensure_group()
            return []
        streams = cast("list[tuple[bytes, Items]]", reply)
        return [build_entry(entry_id, fields) for _, items in streams for entry_id, fields in items if fields]

    async def reclaim(self, consumer: str, *, min_idle_ms: int, count: int) -> list[Entry]:
        """Take over up to count entries whose consumer was silent for min_idle_ms, with their delivery counts.

        An empty list means that none of the RECLAIM_MAX_EXAMINED entries examined was silent. A call continues where
        the last one stopped: after the entries that it took over, so that entries which return again and again do not
        hide others, or at the limit. After a call that examined all entries and took none, the next one starts with
        the oldest entry, because the entries of a dead consumer are older than those in progress.
        """
        with translate_redis_errors("reclaim entries"):
            try:
                claimed = await self._claim_silent(consumer, min_idle_ms, count)
                if not claimed:
                    return []
                deliveries = await self._count_deliveries([entry_id for entry_id, _ in claimed])
            except ResponseError as error:
                if not is_group_lost(error):
                    raise
                return []
        return [build_entry(entry_id, fields, deliveries.get(entry_id, 2)) for entry_id, fields in claimed]

    async def find_pending(self, entry_ids: Sequence[str]) -> set[str]:
        """Return those of the entries that are in flight: a consumer has them, and nobody has settled them."""
        with translate_redis_errors("look up entries in flight"):
            try:
                return {entry_id.decode() for entry_id in await self._count_deliveries(entry_ids)}
            except ResponseError as error:
                if not is_group_lost(error):
                    raise
                return set()

    async def _count_deliveries(self, entry_ids: Sequence[bytes | str]) -> dict[bytes, int]:
        """Return how often each entry was delivered; settled ones are missing.

        It asks for single ids: a range may contain thousands of other entries of this consumer.
        """
        pipeline = self._redis.pipeline(transaction=False)
        for entry_id in entry_ids:
            pipeline.xpending_range(self._keys.stream, GROUP, min=entry_id, max=entry_id, count=1)
        found = await pipeline.execute()
        return {item["message_id"]: int(item["times_delivered"]) for items in found for item in items}

    async def _claim_silent(self, consumer: str, min_idle_ms: int, count: int) -> Items:
        """Claim the next silent entries, page by page.

        An empty page only means that none of the entries in it was silent for long enough (issue 14, 2).
        """
        cursor, self._reclaim_cursor = self._reclaim_cursor, _FIRST
        is_from_the_first = cursor == _FIRST
        for _ in range(0, RECLAIM_MAX_EXAMINED, count * _XAUTOCLAIM_ATTEMPTS):
            cursor, items, *_ = await self._redis.xautoclaim(
                self._keys.stream, GROUP, consumer, min_idle_ms, start_id=cursor, count=count
            )
            claimed = [(entry_id, fields) for entry_id, fields in items if fields]
            if claimed:
                self._reclaim_cursor = cursor
                return claimed
            if cursor == _FIRST:
                if is_from_the_first:
                    break
                is_from_the_first = True
        else:
            # Thousands of entries may be renewed all the time while they wait for an index: they must not hide others.
            self._reclaim_cursor = cursor
        return []

    async def renew(self, consumer: str, entry_ids: Sequence[str]) -> None:
        """Renew the claim of the consumer on these entries, so that no other consumer reclaims them."""
        with translate_redis_errors("renew a claim"):
            await self._redis.xclaim(
                self._keys.stream, GROUP, consumer, min_idle_time=0, message_ids=list(entry_ids), justid=True
            )

    async def hand_over(self, consumer: str, entry_ids: Sequence[str], *, idle_ms: int) -> None:
        """Mark the entries as silent for idle_ms, so that the next consumer that reclaims takes them over."""
        with translate_redis_errors("hand entries over"):
            await self._redis.xclaim(
                self._keys.stream,
                GROUP,
                consumer,
                min_idle_time=0,
                message_ids=list(entry_ids),
                idle=idle_ms,
                justid=True,
            )

    async def settle(self, settlements: Sequence[Settlement]) -> list[str]:
        """Acknowledge, delete and count each entry in one atomic step; return the ids that this call settled.

        Idempotent: entries that were settled before, by any consumer, are ignored.
        """
        settled: list[str] = []
        with translate_redis_errors("settle entries"):
            for arguments in _build_settle_arguments(settlements):
                found = await self._settle([self._keys.stream, self._keys.ledger, self._keys.dead], [GROUP, *arguments])
                settled += [entry_id.decode() for entry_id in found]
        return settled

    async def book_work(self, work: IndexerWork) -> None:
        """Add what an indexer did to the work of all indexers. Not idempotent: do not repeat it after an error."""
        with translate_redis_errors("book the work"):
            await self._book([self._keys.ledger], [work.busy_ms, work.hits, work.pushed_back])

    async def leave(self, consumer: str) -> bool:
        """Remove the consumer from the group if it has no pending entries; return whether it is removed."""
        with translate_redis_errors("leave the group"):
            return bool(await self._leave([self._keys.stream], [GROUP, consumer]))

    async def sweep(self, *, min_idle_ms: int) -> list[str]:
        """Remove consumers that were silent for min_idle_ms and have no pending entries; return their names.

        This does not harm a consumer that is alive: its next read creates it again.
        """
        with translate_redis_errors("remove dead consumers"):
            try:
                names = await self._sweep([self._keys.stream], [GROUP, min_idle_ms])
            except ResponseError as error:
                if not is_group_lost(error):
                    raise
                return []
        return [name.decode(errors="replace") for name in cast("list[bytes]", names)]


def _build_settle_arguments(settlements: Sequence[Settlement]) -> Iterator[list[str | int | bytes]]:
    """Yield the arguments of the settle script, split into calls of limited size."""
    arguments: list[str | int | bytes] = []
    size = 0
    for settlement in settlements:
        letters = settlement.dead_letters
        bytes_more = sum(len(letter.payload) for letter in letters)
        if arguments and size + bytes_more > _SETTLE_MAX_BYTES:
            yield arguments
            arguments, size = [], 0
        size += bytes_more
        dead = sum(letter.hits for letter in letters)
        arguments += [settlement.entry_id, settlement.indexed, settlement.duplicate, dead, len(letters)]
        for letter in letters:
            positions = "" if letter.positions is None else ",".join(map(str, letter.positions))
            arguments += [letter.reason, letter.detail, letter.hits, positions, letter.payload]
    yield arguments
