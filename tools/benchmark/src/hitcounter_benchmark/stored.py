"""Stores hits with past times through the batch endpoint before the measurement.

They are real: accepted, queued, indexed. Their times are spread evenly over nearly three days and differ by
milliseconds, so that no two hits of one id are merged into one document. This is the hardest case for reads.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

import orjson

from hitcounter_benchmark.benchmark import BenchmarkError
from hitcounter_benchmark.client import Client, ClientError
from hitcounter_benchmark.progress import say
from hitcounter_benchmark.reading import read_status, wait_until_drained
from hitcounter_benchmark.target import Target

_PAST_BATCH: Final = 5_000
_LANES: Final = 2
"""Batches under way at once: together well under what the API lets wait for Redis."""
_SPAN_MS: Final = 71 * 60 * 60 * 1000
"""An hour less than the longest window, so that no hit leaves it while we measure."""
_MAX_BACKLOG: Final = 300_000
"""Of hits of the past: Redis should stay small, and Elasticsearch busy."""
_PAUSE_SECONDS: Final = 0.05
_PATIENCE_SECONDS: Final = 600.0


async def store_hits(target: Target, ids: Sequence[str], hits: int) -> None:
    """Store so many hits, evenly over the ids and over three days, and wait until none is queued any more.

    Raises:
        BenchmarkError: The API refused them, or the queue did not empty.
    """
    say(f"storing {hits:,} hits of {len(ids):,} ids")
    async with Client(target, _LANES) as client:
        await _post_all(client, build_past(ids, hits, now_ms=time.time_ns() // 1_000_000))
        if not await wait_until_drained(client, _PATIENCE_SECONDS):
            raise BenchmarkError(f"the stored hits were still queued after {_PATIENCE_SECONDS:.0f} s")


def build_past(ids: Sequence[str], hits: int, *, now_ms: int) -> Iterator[bytes]:
    """Yield JSON arrays of hits whose times go up from hit to hit."""
    for numbers in _cut(hits):
        times = (
            datetime.fromtimestamp((now_ms - _SPAN_MS + number * _SPAN_MS // hits) / 1000, UTC) for number in numbers
        )
        pairs = zip(numbers, times, strict=True)
        yield orjson.dumps([{"id": ids[number % len(ids)], "timestamp": moment} for number, moment in pairs])


def _cut(hits: int) -> Iterator[range]:
    return (range(first, min(first + _PAST_BATCH, hits)) for first in range(0, hits, _PAST_BATCH))


async def _post_all(client: Client, bodies: Iterator[bytes]) -> None:
    try:
        async with asyncio.TaskGroup() as lanes:
            for _ in range(client.connections):
                lanes.create_task(_post_some(client, bodies))
    except* (BenchmarkError, ClientError) as errors:
        raise BenchmarkError(f"could not store hits: {errors.exceptions[0]}") from errors


async def _post_some(client: Client, bodies: Iterator[bytes]) -> None:
    for body in bodies:
        answer = await client.ask(client.target.post("/analytics/batch", body))
        if answer.status != 204:
            raise BenchmarkError(f"the API answered {answer.status}: {answer.body[:300]!r}")
        await _wait_for_room(client)


async def _wait_for_room(client: Client) -> None:
    while (status := await read_status(client)) is None or status.backlog > _MAX_BACKLOG:  # noqa: ASYNC110 -- polled
        await asyncio.sleep(_PAUSE_SECONDS)
