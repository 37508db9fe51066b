"""Publishes the as-of (completeness time, a watermark): every hit accepted before it is countable or a dead letter.

The steps are: sample the oldest unsettled entry, refresh the indices, publish the sample. In this order the published
time is true, because everything older than the sample was settled before the refresh began. One indexer at a time does
this, the one with a lease in Redis. The lease only avoids needless refreshes: the as-of is never moved back, whoever
publishes it. If no indexer runs, the as-of does not advance, which is correct.

An indexer that cannot refresh gives the lease up, and waits before it asks for it again. Only indices within the
windows are refreshed, so that an index that nobody reads cannot stop the as-of.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

from hitcounter.elastic import Indices
from hitcounter.errors import IndexUnavailable, StreamUnavailable
from hitcounter.hits import ACCEPT_AHEAD_MS, DAY_MS, MINUTE_MS
from hitcounter.indices import indices_of_windows
from hitcounter.logs import get_logger
from hitcounter.stream import AsOfRegister

from hitcounter_indexer.conditions import AS_OF, Conditions

_LEASE_INTERVALS = 6
_LEASE_LEAST_MS = 3000
_PAUSE_LEASES = 2
"""After repeated failures an indexer leaves the lease to others for this many lease periods."""
_MOST_FAILURES = 10
"""Counted for the pause, which has reached its maximum long before."""
_OVER_MS = 1
_LONGEST_WINDOW_MS = 3 * DAY_MS
_SLACK_MS = 5 * MINUTE_MS
"""For readers whose clocks are behind."""

log = get_logger()


class AsOfPublisher:
    """Publishes the as-of of one installation while it holds the lease."""

    def __init__(
        self, register: AsOfRegister, indices: Indices, conditions: Conditions, *, name: str, interval_ms: int
    ) -> None:
        self._register = register
        self._indices = indices
        self._conditions = conditions
        self._name = name
        self._interval_seconds = interval_ms / 1000
        self._lease_ms = max(_LEASE_LEAST_MS, _LEASE_INTERVALS * interval_ms)
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Publish until stopped, and once more after that, so that the last settled entries are included."""
        pause_seconds, failures = self._interval_seconds, 0
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_seconds):
                    await self._stopping.wait()
            pause_seconds = self._interval_seconds
            try:
                await self.publish_once()
            except IndexUnavailable as error:
                self._conditions.note_background_failure(AS_OF, error)
                await self._release()
                # Longer each time: if it is the only indexer, one failed refresh must not delay the as-of for seconds.
                pause_seconds = min(pause_seconds * 2**failures, _PAUSE_LEASES * self._lease_ms / 1000)
                failures = min(failures + 1, _MOST_FAILURES)
            except StreamUnavailable as error:
                log.debug("the as-of does not advance", reason=str(error))  # the workers report it
            except Exception:
                log.exception("the as-of could not be published")
            else:
                failures = 0
                self._conditions.clear_degraded(AS_OF)
        await self._release()

    def stop(self) -> None:
        """Make `run` publish a last time and return."""
        self._stopping.set()

    async def publish_once(self) -> int | None:
        """Sample, refresh, publish. Return the published time; None if another indexer has the lease or was later.

        Raises:
            StreamUnavailable, IndexUnavailable: nothing was published.
        """
        sample_ms = await self._sample()
        if sample_ms is None:
            return None
        await self._refresh(self._days(sample_ms))
        return sample_ms if await self._register.publish(sample_ms) else None

    def _days(self, sample_ms: int) -> list[str]:
        """Return the days of all hits that are in a window now or later, including hits dated in the future."""
        now_ms = time.time_ns() // 1_000_000
        until_ms = max(now_ms, sample_ms) + ACCEPT_AHEAD_MS + 1  # the sample is by the clock of Redis
        return indices_of_windows(self._indices.prefix, until_ms, until_ms - now_ms + _LONGEST_WINDOW_MS + _SLACK_MS)

    async def _refresh(self, days: list[str]) -> None:
        """Refresh, and renew the lease meanwhile, so that other indexers do not refresh at the same time."""
        refreshing = asyncio.create_task(self._indices.refresh(days))
        try:
            while not (await asyncio.wait([refreshing], timeout=self._lease_ms / 3000))[0]:
                await self._sample()
            await refreshing
        finally:
            refreshing.cancel()

    async def _sample(self) -> int | None:
        return await self._register.sample(self._name, lease_ms=self._lease_ms)

    async def _release(self) -> None:
        """Give up the lease if this indexer has it."""
        with contextlib.suppress(StreamUnavailable):  # it ends by itself
            await self._register.sample(self._name, lease_ms=_OVER_MS)
