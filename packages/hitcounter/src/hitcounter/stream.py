"""The stream of entries in Redis: append, read, reclaim, settle. The only module that speaks Redis.

An entry is born in `append`, by one atomic script that also books its hits, and dies in `settle`, by another that
acknowledges, deletes and books. In between it is queued (no consumer has it) or in flight (one has). There is no
MAXLEN and no expiry: nothing but `settle` takes an entry away. Every key and field name stands here, once.

What the scripts promise is said in their own first lines (scripts/*.lua). What is in an entry: codec.py. Errors of
redis-py leave this module as StreamUnavailable; the caller decides whether to try again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Final, cast

from redis.asyncio import Connection, ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, OutOfMemoryError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from hitcounter.codec import HitBatch, encode
from hitcounter.errors import Outcome, StreamUnavailable
from hitcounter.ledger import Audit, Ledger, StreamStatus
from hitcounter.settings import RedisSettings

GROUP: Final = "indexers"
_FIELD_BATCH: Final = b"batch"
_FIELD_HITS: Final = b"hits"
_FIELD_POSITIONS: Final = b"positions"
_LEDGER_FIELDS: Final = ("accepted", "indexed", "duplicate", "dead")

_SEQUENCE_TTL_MS: Final = 24 * 60 * 60 * 1000
"""How long a producer's last sequence is kept: a whole day beyond its last batch, where retries take a second."""
_AUDIT_PAGE: Final = 500
_REFUSED_UP_FRONT: Final = (
    "OOM",
    "MISCONF",
    "READONLY",
    "MASTERDOWN",
    "NOREPLICAS",
    "NOAUTH",
    "WRONGPASS",
    "STALESEQUENCE",
)
"""Error codes that Redis gives before a script has done anything."""


_Items = list[tuple[bytes, dict[bytes, bytes]]]
"""Entries as redis-py returns them, whose own types leave open what RESP2 settles."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The names of everything one installation keeps in Redis; the braces put them into one hash slot."""

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
        """The published as-of, in milliseconds."""
        return f"{{{self.prefix}}}:as-of"

    @property
    def as_of_lease(self) -> str:
        """Names the indexer that publishes the as-of at present."""
        return f"{{{self.prefix}}}:as-of-lease"

    def producer(self, producer: bytes) -> str:
        """The last sequence accepted from a producer."""
        return f"{{{self.prefix}}}:producer:{producer.hex()}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry as it was delivered."""

    entry_id: str
    payload: bytes
    """The bytes of its HitBatch; empty where the entry was not written by us."""
    hits: int
    """The hits that the ledger has booked for it."""
    positions: frozenset[int] | None = None
    """Only the documents at these positions are meant (a dead letter sent again); None for all."""
    deliveries: int = 1


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Hits of one entry that can never be indexed, for one reason."""

    reason: str
    detail: str
    hits: int
    payload: bytes
    positions: Sequence[int] | None = None
    """The positions of their documents in the batch; None for the whole entry."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """How the hits of one entry ended: indexed + duplicate + the hits of its dead letters are all of them."""

    entry_id: str
    indexed: int = 0
    duplicate: int = 0
    dead_letters: Sequence[DeadLetter] = ()


@contextlib.asynccontextmanager
async def open_stream(settings: RedisSettings) -> AsyncIterator[HitStream]:
    """Open the stream of this installation and close its connections at the end. Connects when first used."""
    stream = HitStream(settings)
    try:
        yield stream
    finally:
        await stream.aclose()


class HitStream:
    """The stream, its consumer group and its ledger. One instance serves a whole process; closed by who opened it."""

    def __init__(self, settings: RedisSettings) -> None:
        self.keys = Keys(settings.prefix)
        self._redis = Redis.from_pool(_build_pool(settings, settings.timeout_seconds))
        self._accept_lane = _AcceptLane(_build_pool(settings, None))
        self._settle = _load_script(self._redis, "settle")
        self._sample = _load_script(self._redis, "sample")
        self._publish = _load_script(self._redis, "publish")
        self._leave = _load_script(self._redis, "leave")

    async def aclose(self) -> None:
        """Close all connections."""
        await self._accept_lane.aclose()
        await self._redis.aclose()

    async def ping(self) -> None:
        """Check that Redis answers and may be trusted with hits.

        Raises:
            StreamUnavailable: it is away, or its maxmemory-policy would throw hits away.
        """
        with _translated("ping"):
            check_memory_policy((await self._redis.info("memory"))["maxmemory_policy"])

    # ── the API's side ──────────────────────────────────────────────────────────────────────────────────────────────

    async def append(self, batch: HitBatch, *, timeout_seconds: float) -> None:
        """Add the batch as one entry and book its hits; once, however often it is called for the same batch.

        One call at a time: the next batch of a producer may only follow when this one is done or given up.

        Raises:
            StreamUnavailable: its ``outcome`` says whether the entry may be in the stream all the same.
        """
        keys = (self.keys.stream, self.keys.ledger, self.keys.producer(batch.producer))
        await self._accept_lane.accept(
            keys, (encode(batch), len(batch), batch.sequence, _SEQUENCE_TTL_MS), timeout_seconds=timeout_seconds
        )

    async def status(self) -> StreamStatus:
        """Return one consistent look at ledger, stream, as-of and Redis's clock, in constant time."""
        with _translated("read the ledger"):
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.hmget(self.keys.ledger, list(_LEDGER_FIELDS))
                pipe.xlen(self.keys.stream)
                pipe.xrange(self.keys.stream, count=1)
                pipe.get(self.keys.as_of)
                pipe.time()
                counters, entries, oldest, as_of, (seconds, microseconds) = await pipe.execute()
        return StreamStatus(
            ledger=Ledger(*(int(counter or 0) for counter in counters)),
            entries=entries,
            oldest_ms=_entry_time_ms(oldest[0][0]) if oldest else None,
            as_of_ms=int(as_of) if as_of is not None else None,
            now_ms=seconds * 1000 + microseconds // 1000,
        )

    # ── the indexer's side ──────────────────────────────────────────────────────────────────────────────────────────

    async def ensure_group(self) -> None:
        """Create the stream and its group where they are missing. The group starts at the stream's first entry."""
        with _translated("create the consumer group"):
            try:
                await self._redis.xgroup_create(self.keys.stream, GROUP, id="0", mkstream=True)
            except ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise

    async def read(self, consumer: str, *, count: int, block_ms: int) -> list[Entry]:
        """Return up to count entries that no consumer has yet, oldest first; waits up to block_ms for the first.

        Never cancel it: entries delivered by an answer that nobody reads stay pending until they are reclaimed.
        """
        with _translated("read the stream"):
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
        """Take over up to count entries whose consumer was silent for min_idle_ms, with their delivery counts."""
        with _translated("reclaim entries"):
            try:
                reply = await self._redis.xautoclaim(
                    self.keys.stream, GROUP, consumer, min_idle_time=min_idle_ms, count=count
                )
                claimed = [(entry_id, fields) for entry_id, fields in reply[1] if fields]
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
        return [_build_entry(entry_id, fields, deliveries.get(entry_id, 1)) for entry_id, fields in claimed]

    async def renew(self, consumer: str, entry_ids: Sequence[str]) -> None:
        """Tell the others that the consumer is still at work on these entries, so that nobody reclaims them."""
        with _translated("renew a claim"):
            await self._redis.xclaim(
                self.keys.stream, GROUP, consumer, min_idle_time=0, message_ids=list(entry_ids), justid=True
            )

    async def settle(self, settlements: Sequence[Settlement]) -> int:
        """Acknowledge, delete and book the entries in one atomic step; return how many this call settled.

        Safe to repeat: what was settled before, by anyone, is left alone.
        """
        arguments: list[str | int | bytes] = [GROUP]
        for settlement in settlements:
            letters = settlement.dead_letters
            dead = sum(letter.hits for letter in letters)
            arguments += [settlement.entry_id, settlement.indexed, settlement.duplicate, dead, len(letters)]
            for letter in letters:
                positions = "" if letter.positions is None else ",".join(map(str, letter.positions))
                arguments += [letter.reason, letter.detail, letter.hits, positions, letter.payload]
        with _translated("settle entries"):
            return int(await self._settle([self.keys.stream, self.keys.ledger, self.keys.dead], arguments))

    async def leave(self, consumer: str) -> bool:
        """Remove the consumer from the group if nothing of it is pending; tell whether it is gone."""
        with _translated("leave the group"):
            return bool(await self._leave([self.keys.stream], [GROUP, consumer]))

    # ── as of ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def sample_as_of(self, publisher: str, *, lease_ms: int) -> int | None:
        """Return the time before which every accepted hit is settled, or None where another publisher has the lease."""
        with _translated("sample the as-of"):
            sample = await self._sample([self.keys.stream, self.keys.as_of_lease], [publisher, lease_ms])
        return None if sample is None else int(sample)

    async def publish_as_of(self, publisher: str, as_of_ms: int) -> bool:
        """Publish a sample, if the publisher still has the lease. The index must have been refreshed since it."""
        with _translated("publish the as-of"):
            return bool(await self._publish([self.keys.as_of_lease, self.keys.as_of], [publisher, as_of_ms]))

    # ── audit ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def audit(self) -> Audit:
        """Walk over both streams and put what is there beside the ledger. Reads everything, in small steps."""
        before = (await self.status()).ledger
        stream_hits = await self._count_hits(self.keys.stream)
        dead_hits = await self._count_hits(self.keys.dead)
        return Audit(before, (await self.status()).ledger, stream_hits, dead_hits)

    async def _count_hits(self, stream: str) -> int:
        hits = 0
        start = "-"
        with _translated("walk over the stream"):
            while page := cast("_Items", await self._redis.xrange(stream, min=start, count=_AUDIT_PAGE)):
                hits += sum(_read_hits(fields) for _, fields in page)
                start = f"({page[-1][0].decode()}"
        return hits


class _AcceptLane:
    """One connection that carries one accept at a time: the hot path's, without the pool's and client's bookkeeping.

    It is opened when first needed, and dropped after any failure: a late answer can then never be taken for the next
    batch's, and a batch that reaches Redis late finds a higher sequence there and is refused.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._connection: Connection | None = None
        self._script = _read_script("accept")
        self._sha = ""

    async def accept(
        self, keys: Sequence[str], arguments: Sequence[str | int | bytes], *, timeout_seconds: float
    ) -> None:
        """Run the script once. Raises StreamUnavailable, with what is known of the outcome."""
        was_sent = False
        try:
            async with asyncio.timeout(timeout_seconds):
                connection = self._connection or await self._open()
                was_sent = True
                await _call(connection, "EVALSHA", self._sha, len(keys), *keys, *arguments)
        except BaseException as error:
            await self._drop()
            if isinstance(error, RedisError | OSError | TimeoutError):
                raise _translate(error, "accept a batch", was_sent=was_sent) from error
            raise

    async def aclose(self) -> None:
        await self._drop()
        await self._pool.aclose()

    async def _open(self) -> Connection:
        connection = cast("Connection", await self._pool.get_connection())  # type: ignore[no-untyped-call]  # redis-py
        self._connection = connection
        memory = (await _call(connection, "INFO", "memory")).decode()
        check_memory_policy(dict(line.split(":", 1) for line in memory.split() if ":" in line)["maxmemory_policy"])
        self._sha = (await _call(connection, "SCRIPT", "LOAD", self._script)).decode()
        return connection

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)
            await self._pool.release(connection)


async def _call(connection: Connection, *command: str | int | bytes) -> bytes:
    await connection.send_command(*command)
    return cast("bytes", await connection.read_response())


def check_memory_policy(policy: str) -> None:
    """Refuse a Redis that may evict.

    Raises:
        StreamUnavailable: with the setting to change.
    """
    if policy != "noeviction":
        raise StreamUnavailable(
            f"Redis has maxmemory-policy {policy} and may throw hits away; set it to noeviction",
            outcome=Outcome.REFUSED,
            is_worth_retrying=False,
            retry_after_seconds=5,
        )


def _build_pool(settings: RedisSettings, timeout_seconds: float | None) -> ConnectionPool:
    return ConnectionPool.from_url(
        settings.url.get_secret_value(),
        protocol=2,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=settings.connect_timeout_seconds,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), 0),  # who calls decides what may be repeated
    )


def _read_script(name: str) -> str:
    return resources.files("hitcounter").joinpath("scripts", f"{name}.lua").read_text()


def _load_script(client: Redis, name: str) -> AsyncScript:
    return client.register_script(_read_script(name))


def _build_entry(entry_id: bytes, fields: dict[bytes, bytes], deliveries: int = 1) -> Entry:
    positions = fields.get(_FIELD_POSITIONS)
    return Entry(
        entry_id=entry_id.decode(),
        payload=fields.get(_FIELD_BATCH, b""),
        hits=_read_hits(fields),
        positions=frozenset(map(int, positions.split(b","))) if positions else None,
        deliveries=deliveries,
    )


def _read_hits(fields: dict[bytes, bytes]) -> int:
    hits = fields.get(_FIELD_HITS, b"")
    return int(hits) if hits.isdigit() else 0


def _entry_time_ms(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])


def _is_group_lost(error: ResponseError) -> bool:
    return str(error).startswith(("NOGROUP", "UNBLOCKED"))


@contextlib.contextmanager
def _translated(doing: str) -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise _translate(error, doing, was_sent=True) from error


def _translate(error: Exception, doing: str, *, was_sent: bool) -> StreamUnavailable:
    """Say in our words what Redis or the way to it did, and whether the command may have had an effect."""
    text = str(error) or type(error).__name__
    if isinstance(error, OutOfMemoryError):
        return StreamUnavailable(
            f"cannot {doing}: Redis is full ({text})",
            outcome=Outcome.REFUSED,
            is_worth_retrying=False,
            retry_after_seconds=5,
        )
    is_answer = isinstance(error, ResponseError)
    is_refused = not was_sent or isinstance(error, NoScriptError) or (is_answer and text.startswith(_REFUSED_UP_FRONT))
    away = isinstance(error, RedisConnectionError | RedisTimeoutError | OSError | TimeoutError)
    return StreamUnavailable(
        f"cannot {doing}: {'Redis does not answer' if away else 'Redis refused'} ({text})",
        outcome=Outcome.REFUSED if is_refused else Outcome.UNKNOWN,
    )
