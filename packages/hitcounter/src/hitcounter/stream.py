"""The stream of entries in Redis: append, read, reclaim, settle. Delivery is at-least-once.

`append` adds an entry, by one atomic script that also counts its hits in the ledger. `settle` removes it, by another
that acknowledges, deletes and counts. Between the two, an entry is queued (not delivered to a consumer) or in flight
(delivered). The stream has no MAXLEN and no expiry: only `settle` removes entries. All names of keys and fields are
defined in this module.

The first lines of each script (scripts/*.lua) say what it guarantees. codec.py has the content of an entry.
redis_lane.py makes connections and translates the errors of redis-py; no other module uses redis-py.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Final, cast

from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import ResponseError

from hitcounter.codec import HitBatch, encode
from hitcounter.entries import DeadLetter, Durability, Entry, PendingEntry, Settlement, StoredDeadLetter
from hitcounter.errors import Outcome, StreamUnavailable
from hitcounter.ledger import Audit, Ledger, StreamMemory, StreamStatus
from hitcounter.redis_lane import AcceptLane, build_pool, check_memory_policy, is_demoted, is_forbidden, translated
from hitcounter.settings import RedisSettings

__all__ = [
    "GROUP",
    "DeadLetter",
    "Durability",
    "Entry",
    "HitStream",
    "Keys",
    "Settlement",
    "StoredDeadLetter",
    "open_stream",
]

GROUP: Final = "indexers"
_FIELD_BATCH: Final = b"batch"
_FIELD_HITS: Final = b"hits"
_FIELD_POSITIONS: Final = b"positions"
_FIELD_ENTRY: Final = b"entry"
_FIELD_REASON: Final = b"reason"
_FIELD_DETAIL: Final = b"detail"
_LEDGER_FIELDS: Final = ("accepted", "indexed", "duplicate", "dead", "replayed")

_SEQUENCE_TTL_MS: Final = 24 * 60 * 60 * 1000
"""How long the last sequence of a producer is kept: a day after its last batch. Retries take about a second."""
RECLAIM_MAX_EXAMINED: Final = 10_000
"""Maximum number of pending entries that one `reclaim` examines: 100 calls of about 25 µs in Redis, each for 100
entries at the indexer's count of 10."""
_XAUTOCLAIM_ATTEMPTS: Final = 10
"""Redis examines this many entries for each one that XAUTOCLAIM may return."""
_FIRST: Final = b"0-0"
_AUDIT_MAX_ENTRIES: Final = 500
_AUDIT_MAX_BYTES: Final = 1024 * 1024
"""One call of the audit script stops at the first of these limits: it takes less than 2 ms in Redis."""
_SETTLE_MAX_BYTES: Final = 8 * 1024 * 1024
"""Dead letters contain their payloads. More bytes than this are sent in several calls."""
_NUMBER_MAX_DIGITS: Final = 6
_Items = list[tuple[bytes, dict[bytes, bytes]]]
"""Entries as redis-py returns them with RESP2. Its own type hints are less exact."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The names of all keys of one installation. The braces put them into one hash slot."""

    prefix: str

    @property
    def stream(self) -> str:
        """The stream of entries."""
        return f"{{{self.prefix}}}:hits"

    @property
    def ledger(self) -> str:
        """The hash with the four counters of the ledger."""
        return f"{{{self.prefix}}}:ledger"

    @property
    def dead(self) -> str:
        """The stream of dead letters."""
        return f"{{{self.prefix}}}:dead"

    @property
    def as_of(self) -> str:
        """The published as-of (completeness time), in milliseconds."""
        return f"{{{self.prefix}}}:as-of"

    @property
    def as_of_lease(self) -> str:
        """The lease: the name of the indexer that publishes the as-of now."""
        return f"{{{self.prefix}}}:as-of-lease"

    def producer(self, producer: bytes) -> str:
        """The last sequence accepted from a producer."""
        return f"{{{self.prefix}}}:producer:{producer.hex()}"


@contextlib.asynccontextmanager
async def open_stream(settings: RedisSettings) -> AsyncIterator[HitStream]:
    """Open the stream of this installation; close its connections at the end. It connects at first use."""
    stream = HitStream(settings)
    try:
        yield stream
    finally:
        await stream.aclose()


class HitStream:
    """The stream, its consumer group and its ledger. A process needs one instance; whoever opened it closes it."""

    def __init__(self, settings: RedisSettings) -> None:
        self.keys = Keys(settings.prefix)
        self._redis = Redis.from_pool(build_pool(settings, settings.timeout_seconds))
        accept = _read_script("accept")
        self._accept_lanes = {
            durability: AcceptLane(
                build_pool(settings, None), accept, durability, trusts_hidden_policy=settings.trust_memory_policy
            )
            for durability in Durability
        }
        self._trusts_hidden_policy = settings.trust_memory_policy
        self._policy: str | None = None
        """The maxmemory-policy when it was last read; empty if Redis does not show it, None before the first read."""
        self._reclaim_cursor = _FIRST
        self._status = _load_script(self._redis, "status")
        self._group = _load_script(self._redis, "group")
        self._settle = _load_script(self._redis, "settle")
        self._sample = _load_script(self._redis, "sample")
        self._publish = _load_script(self._redis, "publish")
        self._leave = _load_script(self._redis, "leave")
        self._sweep = _load_script(self._redis, "sweep")
        self._audit = _load_script(self._redis, "audit")
        self._replay = _load_script(self._redis, "replay")

    async def aclose(self) -> None:
        """Close all connections."""
        for lane in self._accept_lanes.values():
            await lane.aclose()
        await self._redis.aclose()

    async def ping(self) -> None:
        """Check that Redis answers and does not evict hits.

        Raises:
            StreamUnavailable: Redis does not answer, or its maxmemory-policy may evict hits.
        """
        await self.memory()
        self._check_policy()

    # ── the API's side ──────────────────────────────────────────────────────────────────────────────────────────────

    async def append(
        self, batch: HitBatch, *, timeout_seconds: float, durability: Durability = Durability.MEMORY
    ) -> None:
        """Add the batch as one entry and count its hits. Idempotent: repeated calls for one batch add it once.

        Each durability needs its own producer, and only one call at a time. Send the next batch of a producer only
        when this one has succeeded or been given up.

        Raises:
            StreamUnavailable: ``outcome`` says whether the entry may be in the stream after all.
            DurabilityUnavailable: this Redis does not support the durability; nothing was added.
        """
        self._check_policy()
        try:
            payload = encode(batch)
        except Exception as error:  # a bug; the error must say that nothing was sent
            cause = f"{type(error).__name__}: {error}"
            raise StreamUnavailable("the hits cannot be encoded", cause=cause, outcome=Outcome.REFUSED) from error
        keys = (self.keys.stream, self.keys.ledger, self.keys.producer(batch.producer))
        arguments = (payload, len(batch), batch.sequence, _SEQUENCE_TTL_MS)
        try:
            await self._accept_lanes[durability].accept(keys, arguments, timeout_seconds=timeout_seconds)
        except StreamUnavailable as error:
            if is_demoted(error.__cause__):
                # A demoted Redis still answers reads, so the other connections would not notice: close them, too.
                with contextlib.suppress(Exception):  # it must not replace the error that says that nothing was taken
                    await self._redis.connection_pool.disconnect(inuse_connections=False)
            raise

    async def status(self) -> StreamStatus:
        """Return a consistent snapshot of ledger, stream, as-of and the clock of Redis, in constant time."""
        with translated("read the ledger"):
            counters, entries, oldest, as_of, now_ms, in_flight = await self._status(
                [self.keys.stream, self.keys.ledger, self.keys.as_of], [GROUP, *_LEDGER_FIELDS]
            )
        return StreamStatus(
            ledger=Ledger(*(int(counter or 0) for counter in counters)),
            entries=entries,
            oldest_ms=_entry_time_ms(oldest) if oldest is not None else None,
            as_of_ms=int(as_of) if as_of is not None else None,
            now_ms=now_ms,
            entries_in_flight=in_flight,
        )

    async def memory(self) -> StreamMemory:
        """Return memory and persistence of Redis. If it may evict hits, `append` fails from now on without asking."""
        with translated("look at Redis"):
            try:
                info = await self._redis.info("memory", "persistence", "stats")  # several sections: Redis 7.0
            except ResponseError as error:
                if not is_forbidden(error):
                    raise
                info = {}
        self._policy = str(info.get("maxmemory_policy", ""))
        policy_fault = ""
        try:
            self._check_policy()
        except StreamUnavailable as error:
            policy_fault = str(error)
        capacity_bytes = info.get("maxmemory") or info.get("total_system_memory") or 0
        aof_enabled, evicted_keys = info.get("aof_enabled"), info.get("evicted_keys")
        return StreamMemory(
            used_bytes=int(info.get("used_memory", 0)),
            capacity_bytes=int(capacity_bytes),
            policy_fault=policy_fault,
            is_aof_enabled=None if aof_enabled is None else bool(aof_enabled),
            evicted_keys=None if evicted_keys is None else int(evicted_keys),
        )

    def _check_policy(self) -> None:
        if self._policy is not None:
            check_memory_policy(self._policy, trusts_hidden=self._trusts_hidden_policy)

    # ── the indexer's side ──────────────────────────────────────────────────────────────────────────────────────────

    async def ensure_group(self) -> bool:
        """Create stream and group, starting at the first entry, if missing; return whether they were missing."""
        with translated("create the consumer group"):
            return bool(await self._group([self.keys.stream], [GROUP]))

    async def read(self, consumer: str, *, count: int, block_ms: int) -> list[Entry]:
        """Return up to count new entries, oldest first; wait up to block_ms for the first one.

        Do not cancel it: entries in a response that is not read stay pending until they are reclaimed.
        """
        with translated("read the stream"):
            try:
                reply = await self._redis.xreadgroup(
                    GROUP, consumer, {self.keys.stream: ">"}, count=count, block=block_ms or None
                )
            except ResponseError as error:
                if not _is_group_lost(error):
                    raise
                reply = None
        if reply is None:
            await self.ensure_group()
            return []
        streams = cast("list[tuple[bytes, _Items]]", reply)
        return [_build_entry(entry_id, fields) for _, items in streams for entry_id, fields in items if fields]

    async def reclaim(self, consumer: str, *, min_idle_ms: int, count: int) -> list[Entry]:
        """Take over up to count entries whose consumer was silent for min_idle_ms, with their delivery counts.

        An empty list means that none of the RECLAIM_MAX_EXAMINED entries examined was silent. A call continues where
        the last one stopped: after the entries that it took over, so that entries which return again and again do not
        hide others, or at the limit. After a call that examined all entries and took none, the next one starts with
        the oldest entry, because the entries of a dead consumer are older than those in progress.
        """
        with translated("reclaim entries"):
            try:
                claimed = await self._claim_silent(consumer, min_idle_ms, count)
                if not claimed:
                    return []
                pending = await self._redis.xpending_range(
                    self.keys.stream, GROUP, min=claimed[0][0], max=claimed[-1][0], count=100_000, consumername=consumer
                )
            except ResponseError as error:
                if not _is_group_lost(error):
                    raise
                return []
        deliveries = {item["message_id"]: int(item["times_delivered"]) for item in pending}
        return [_build_entry(entry_id, fields, deliveries.get(entry_id, 2)) for entry_id, fields in claimed]

    async def _claim_silent(self, consumer: str, min_idle_ms: int, count: int) -> _Items:
        """Claim the next silent entries, page by page.

        An empty page only means that none of the entries in it was silent for long enough (issue 14, 2).
        """
        cursor, self._reclaim_cursor = self._reclaim_cursor, _FIRST
        is_from_the_first = cursor == _FIRST
        for _ in range(0, RECLAIM_MAX_EXAMINED, count * _XAUTOCLAIM_ATTEMPTS):
            cursor, items, *_ = await self._redis.xautoclaim(
                self.keys.stream, GROUP, consumer, min_idle_ms, start_id=cursor, count=count
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
        with translated("renew a claim"):
            await self._redis.xclaim(
                self.keys.stream, GROUP, consumer, min_idle_time=0, message_ids=list(entry_ids), justid=True
            )

    async def hand_over(self, consumer: str, entry_ids: Sequence[str], *, idle_ms: int) -> None:
        """Mark the entries as silent for idle_ms, so that the next consumer that reclaims takes them over."""
        with translated("hand entries over"):
            await self._redis.xclaim(
                self.keys.stream,
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
        with translated("settle entries"):
            for arguments in _build_settle_arguments(settlements):
                found = await self._settle([self.keys.stream, self.keys.ledger, self.keys.dead], [GROUP, *arguments])
                settled += [entry_id.decode() for entry_id in found]
        return settled

    async def leave(self, consumer: str) -> bool:
        """Remove the consumer from the group if it has no pending entries; return whether it is removed."""
        with translated("leave the group"):
            return bool(await self._leave([self.keys.stream], [GROUP, consumer]))

    # ── the operator's side ─────────────────────────────────────────────────────────────────────────────────────────

    async def sweep(self, *, min_idle_ms: int) -> list[str]:
        """Remove consumers that were silent for min_idle_ms and have no pending entries; return their names.

        This does not harm a consumer that is alive: its next read creates it again.
        """
        with translated("remove dead consumers"):
            try:
                names = await self._sweep([self.keys.stream], [GROUP, min_idle_ms])
            except ResponseError as error:
                if not _is_group_lost(error):
                    raise
                return []
        return [name.decode(errors="replace") for name in cast("list[bytes]", names)]

    # ── as of ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def sample_as_of(self, publisher: str, *, lease_ms: int) -> int | None:
        """Return the time before which every accepted hit is settled.

        None if another publisher has the lease, or while entry ids are ahead of a clock that was set back.
        """
        with translated("sample the as-of"):
            keys = [self.keys.stream, self.keys.as_of_lease, self.keys.as_of]
            sample = await self._sample(keys, [publisher, lease_ms])
        return None if sample is None else int(sample)

    async def publish_as_of(self, as_of_ms: int) -> bool:
        """Publish a sample; the indices must have been refreshed after it. False if a later one is already published.

        It needs no lease: a sample stays true, no matter how long the refresh took.
        """
        with translated("publish the as-of"):
            return bool(await self._publish([self.keys.as_of], [as_of_ms]))

    async def is_publisher(self, publisher: str) -> bool:
        """Return whether it has the lease now. Its holder does what only one process of an installation should do."""
        with translated("look up the lease"):
            return bool(await self._redis.get(self.keys.as_of_lease) == publisher.encode())

    # ── entries in flight, for people ───────────────────────────────────────────────────────────────────────────────

    async def list_pending(self, *, after: str | None = None, count: int = 100) -> list[PendingEntry]:
        """Return up to count entries in flight that follow the id, oldest first."""
        with translated("list the entries in flight"):
            try:
                found = await self._redis.xpending_range(
                    self.keys.stream, GROUP, min=f"({after}" if after else "-", max="+", count=count
                )
            except ResponseError as error:
                if not _is_group_lost(error):
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
        with translated("look up an entry"):
            found = cast("_Items", await self._redis.xrange(self.keys.stream, min=entry_id, max=entry_id))
        return _build_entry(*found[0]) if found else None

    # ── dead letters ────────────────────────────────────────────────────────────────────────────────────────────────

    async def list_dead_letters(self, *, after: str | None = None, count: int = 100) -> list[StoredDeadLetter]:
        """Return up to count dead letters that follow the id, oldest first."""
        with translated("list the dead letters"):
            found = await self._redis.xrange(self.keys.dead, min=f"({after}" if after else "-", count=count)
        return [_build_dead_letter(letter_id, fields) for letter_id, fields in cast("_Items", found)]

    async def find_dead_letter(self, letter_id: str) -> StoredDeadLetter | None:
        """Return the dead letter with that id; None if it does not exist."""
        with translated("look up a dead letter"):
            found = cast("_Items", await self._redis.xrange(self.keys.dead, min=letter_id, max=letter_id))
        return _build_dead_letter(*found[0]) if found else None

    async def replay_dead_letter(self, letter_id: str) -> bool:
        """Move a dead letter back into the backlog; False if it does not exist.

        Its documents keep their ids, so that none is counted twice. Other hits of its batch are not indexed again.
        """
        with translated("replay a dead letter"):
            return bool(await self._replay([self.keys.stream, self.keys.ledger, self.keys.dead], [letter_id]))

    async def discard_dead_letter(self, letter_id: str) -> bool:
        """Delete a dead letter permanently; its hits still count as dead. False if it does not exist."""
        with translated("discard a dead letter"):
            return bool(await self._redis.xdel(self.keys.dead, letter_id))

    # ── audit ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def audit(self) -> Audit:
        """Scan both streams completely, in small steps, and return what is there together with the ledger."""
        before = (await self.status()).ledger
        stream_hits = await self._count_hits(self.keys.stream) or 0
        dead_hits = await self._count_hits(self.keys.dead) or 0
        return Audit(before, (await self.status()).ledger, stream_hits, dead_hits)

    async def audit_backlog(self, *, max_seconds: float) -> int | None:
        """Scan only the stream of entries and return the difference to the ledger; 0 unless something is wrong.

        None if it would take longer than max_seconds.
        """
        before = (await self.status()).ledger
        stream_hits = await self._count_hits(self.keys.stream, max_seconds)
        if stream_hits is None:
            return None
        after = (await self.status()).ledger
        return Audit(before, after, stream_hits, dead_hits=after.dead).difference

    async def _count_hits(self, stream: str, max_seconds: float = math.inf) -> int | None:
        deadline = time.monotonic() + max_seconds
        hits, last = 0, b"-"
        with translated("walk over the stream"):
            while last:
                if time.monotonic() > deadline:
                    return None
                found, last = await self._audit([stream], [last, _AUDIT_MAX_ENTRIES, _AUDIT_MAX_BYTES])
                hits += found
        return hits


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


def _read_script(name: str) -> str:
    return resources.files("hitcounter").joinpath("scripts", f"{name}.lua").read_text()


def _load_script(client: Redis, name: str) -> AsyncScript:
    return client.register_script(_read_script(name))


def _build_entry(entry_id: bytes, fields: dict[bytes, bytes], deliveries: int = 1) -> Entry:
    positions = _read_positions(fields)
    return Entry(
        entry_id=entry_id.decode(),
        payload=fields.get(_FIELD_BATCH, b""),
        hits=_read_hits(fields),
        positions=None if positions is None else frozenset(positions),
        deliveries=deliveries,
    )


def _build_dead_letter(letter_id: bytes, fields: dict[bytes, bytes]) -> StoredDeadLetter:
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


def _entry_time_ms(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])


def _is_group_lost(error: ResponseError) -> bool:
    return str(error).startswith(("NOGROUP", "UNBLOCKED"))
