"""The backlog during a load: sampled, converted to rates, and optionally kept below a limit.

In a closed loop Redis answers long before Elasticsearch has written the hits, so the rate is that of Track and not of
the whole path. With a limit for the backlog the load pauses while too many hits are waiting, so hits are accepted at
the rate of the whole path.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from hitcounter_benchmark.client import Client
from hitcounter_benchmark.load import Load
from hitcounter_benchmark.reading import Status, read_status

_RAMP_SECONDS: Final = 5.0
"""Left out of a flow: until then the queue fills, and the bulks grow to their size."""
_RAMP_SHARE: Final = 0.4
"""Of a load that is too short for that: enough to show that it works."""
_SAMPLE_SECONDS: Final = 0.05
"""At 50,000 hits/s a load is held or let go within 2,500 hits of its limit; asking costs the API half a percent."""
_RECORDED_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Sample:
    """The ledger at one moment."""

    seconds: float
    """Since the start of the load."""
    accepted: int
    backlog: int

    @property
    def settled(self) -> int:
        """Hits that had left the queue."""
        return self.accepted - self.backlog


@dataclass(frozen=True, slots=True)
class Flow:
    """What went in and out of the queue over a stretch of a load."""

    seconds: float
    accepted_per_second: float
    settled_per_second: float
    highest_backlog: int


def measure_flow(samples: Sequence[Sample]) -> Flow | None:
    """Return the flow once the load was under way, up to the last sample; None for fewer than two samples."""
    since_seconds = min(_RAMP_SECONDS, _RAMP_SHARE * samples[-1].seconds) if samples else 0.0
    window = [sample for sample in samples if sample.seconds >= since_seconds]
    if len(window) < 2:
        return None
    first, last = window[0], window[-1]
    seconds = last.seconds - first.seconds
    return Flow(
        seconds=seconds,
        accepted_per_second=(last.accepted - first.accepted) / seconds,
        settled_per_second=(last.settled - first.settled) / seconds,
        highest_backlog=max(sample.backlog for sample in window),
    )


def thin(samples: Iterable[Sample]) -> list[Sample]:
    """Return about one sample a second: enough for a record and its plot."""
    kept: list[Sample] = []
    for sample in samples:
        if not kept or sample.seconds - kept[-1].seconds >= _RECORDED_SECONDS:
            kept.append(sample)
    return kept


class BacklogWatch:
    """Samples the ledger behind an API, and holds the load while the backlog is above the limit, if there is one."""

    def __init__(self, client: Client, load: Load, *, limit: int | None) -> None:
        self.samples: list[Sample] = []
        self._client = client
        self._load = load
        self._limit = limit

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Watch inside the block."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        started = time.monotonic()
        while True:
            status = await read_status(self._client)
            if status is not None:
                self._note(time.monotonic() - started, status)
            await asyncio.sleep(_SAMPLE_SECONDS)

    def _note(self, seconds: float, status: Status) -> None:
        self.samples.append(Sample(seconds, status.accepted, status.backlog))
        self._load.is_held = self._limit is not None and status.backlog > self._limit
