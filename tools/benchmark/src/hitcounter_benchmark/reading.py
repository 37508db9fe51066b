"""Reads counts from the API, and whether they are settled. Only this module knows the format of the response."""

import asyncio
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import orjson

from hitcounter_benchmark.client import Client, ClientError
from hitcounter_benchmark.connection import Answer
from hitcounter_benchmark.target import counts_path

_LONGEST_WINDOW: Final = "3 days ago"
_PAUSE_MIN_SECONDS: Final = 0.02
_PAUSE_MAX_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Reading:
    """The hits of one id in the longest window, and the time up to which they are all in."""

    count: int
    as_of: datetime | None
    """None when the server has never published one, or answers from memory because it cannot look."""


@dataclass(frozen=True, slots=True)
class Status:
    """The queue as ``/status`` tells it: hits since the installation began, and how far they are countable."""

    accepted: int
    backlog: int
    as_of: datetime | None
    """Every hit accepted before is countable; None where none was published yet."""


class NotSettledError(Exception):
    """The counts did not catch up in time; the message is a sentence for the user."""


async def read(client: Client, hit_id: str) -> Reading:
    """Read one id.

    Raises:
        ClientError: There was no answer, or not a 200 of the agreed shape.
    """
    answer = await client.ask(client.target.get(counts_path(hit_id)))
    if answer.status != 200:
        raise ClientError(f"{answer.status} {answer.body[:200].decode(errors='replace')}".strip())
    return Reading(_parse_count(answer.body), _parse_as_of(answer))


async def read_settled(
    client: Client, hit_ids: Iterable[str], *, since: datetime, settle_seconds: float
) -> dict[str, int]:
    """Read every id as soon as its answer covers everything accepted up to ``since``, all within the given time.

    The first id is waited for alone, so that thousands need not ask before there is anything to see.

    Raises:
        NotSettledError: An answer was still older, or there was none, when the time was over.
    """
    deadline = time.monotonic() + settle_seconds
    remaining = iter(hit_ids)
    counts: dict[str, int] = {}

    async def read_next(ids: Iterator[str]) -> None:
        for hit_id in ids:
            counts[hit_id] = await _read_one_settled(client, hit_id, since, deadline)

    first = next(remaining, None)
    if first is not None:
        await read_next(iter([first]))
    try:
        async with asyncio.TaskGroup() as readers:
            for _ in range(client.connections):
                readers.create_task(read_next(remaining))
    except* NotSettledError as errors:
        raise errors.exceptions[0] from errors
    return counts


async def wait_until_drained(client: Client, patience_seconds: float) -> bool:
    """Wait until ``/status`` tells a backlog of 0; returns whether it did in time."""
    deadline = time.monotonic() + patience_seconds
    while (status := await read_status(client)) is None or status.backlog:
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(_PAUSE_MIN_SECONDS)
    return True


async def read_status(client: Client) -> Status | None:
    """Return the queue's state, or None where there is no telling: no answer, or one of another shape."""
    try:
        answer = await client.ask(client.target.get("/status"))
        told = orjson.loads(answer.body)
        as_of = told["as_of"]
        return Status(int(told["accepted"]), int(told["backlog"]), as_of and _parse_time(as_of))
    except (ClientError, ValueError, KeyError, TypeError):
        return None


async def _read_one_settled(client: Client, hit_id: str, since: datetime, deadline: float) -> int:
    pause_seconds = _PAUSE_MIN_SECONDS
    while True:
        try:
            reading = await read(client, hit_id)
        except ClientError as error:
            state = f"reading {hit_id!r} at {client.target.url} failed: {error}"
        else:
            if reading.as_of is not None and reading.as_of > since:
                return reading.count
            seen = "nothing" if reading.as_of is None else f"hits up to {reading.as_of.isoformat()}"
            state = f"the counts cover {seen}, not yet {since.isoformat()}"
        if time.monotonic() >= deadline:
            raise NotSettledError(state)
        await asyncio.sleep(pause_seconds)
        pause_seconds = min(2 * pause_seconds, _PAUSE_MAX_SECONDS)


def now() -> datetime:
    """Return this machine's time, as comparable with ``Hitcounter-As-Of``: load and servers share one clock."""
    return datetime.now(UTC)


def _parse_count(body: bytes) -> int:
    try:
        counts = {window["reference"]: window["count"] for window in orjson.loads(body)["counts"]}
        return int(counts[_LONGEST_WINDOW])
    except (ValueError, KeyError, TypeError) as error:
        raise ClientError(f"not an answer with counts: {body[:200]!r}") from error


def _parse_as_of(answer: Answer) -> datetime | None:
    text = answer.headers.get("hitcounter-as-of")
    if not text or answer.headers.get("hitcounter-stale") == "true":
        return None
    try:
        return _parse_time(text)
    except ValueError as error:
        raise ClientError(f"Hitcounter-As-Of is not RFC 3339: {text!r}") from error


def _parse_time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
