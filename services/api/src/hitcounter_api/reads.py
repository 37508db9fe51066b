"""Answering reads in good and in bad weather: fresh counts, else the last known ones, else an error.

There is never an invented zero. A slow Elasticsearch cannot pile up reads here: each has a time-out, and only so
many are under way at once.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Protocol

from hitcounter.errors import IndexUnavailable
from hitcounter.logs import get_logger

from hitcounter_api.counts import Counts, Steps
from hitcounter_api.metrics import ApiMetrics
from hitcounter_api.queue_watch import Freshness

log = get_logger()


class Reader(Protocol):
    """Where counts come from."""

    async def read(self, id_: str, now_ms: int) -> Counts:
        """Return the hits of the id in each window that ends at now_ms."""

    async def read_history(self, id_: str, now_ms: int, steps: Steps) -> Counts:
        """Return the hits of the id in each step up to now_ms, the oldest first."""


class FreshnessSource(Protocol):
    """Who knows how complete counts are."""

    async def see_freshness(self) -> Freshness:
        """Return how complete counts are that are read from now on."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The counts of one id up to a time, and what they are worth."""

    counts: Counts
    end_ms: int
    freshness: Freshness
    is_stale: bool = False

    def as_stale(self, backlog: int | None) -> Answer:
        """Return the same counts for a later time: their as-of is still their own, the backlog is that of now."""
        return replace(self, freshness=Freshness(self.freshness.as_of_ms, backlog), is_stale=True)


class Reads:
    """Reads counts, and remembers the last ones of the ids read last."""

    def __init__(
        self,
        reader: Reader,
        freshness: FreshnessSource,
        metrics: ApiMetrics,
        *,
        max_concurrent: int,
        remembered_ids: int,
    ) -> None:
        self._reader = reader
        self._freshness = freshness
        self._metrics = metrics
        self._free = max_concurrent
        self._remembered_ids = remembered_ids
        self._remembered: OrderedDict[str, Answer] = OrderedDict()

    async def read(self, id_: str, clock_ms: Callable[[], int]) -> Answer:
        """Return the counts of the id in the windows that end now, or, with Elasticsearch away, the last known ones.

        Now is once the freshness is known, and the as-of is never later than it: later hits are not in the windows.

        Raises:
            IndexUnavailable: Elasticsearch is away and the id was not read lately.
        """
        started = time.perf_counter()
        # Before the search: hits that become countable after it may be missing, whatever the as-of says by then.
        freshness = await self._freshness.see_freshness()
        try:
            now_ms = clock_ms()
            counts = await self._search(lambda: self._reader.read(id_, now_ms))
            answer = Answer(counts, now_ms, freshness.until(now_ms))
        except IndexUnavailable as error:
            remembered = self._remembered.get(id_)
            log.warning("counts are not available", is_remembered=remembered is not None, reason=str(error))
            if remembered is None:
                self._metrics.reads.labels("refused").inc()
                raise
            answer = remembered.as_stale(freshness.backlog)
        else:
            self._remember(id_, answer)
        self._metrics.reads.labels("stale" if answer.is_stale else "fresh").inc()
        self._metrics.read_seconds.observe(time.perf_counter() - started)
        return answer

    async def read_history(self, id_: str, steps: Steps, clock_ms: Callable[[], int]) -> Answer:
        """Return the hits of the id in each step up to now. Nothing of it is remembered: a chart may be missing.

        Raises:
            IndexUnavailable: Elasticsearch is away.
        """
        freshness = await self._freshness.see_freshness()
        now_ms = clock_ms()
        counts = await self._search(lambda: self._reader.read_history(id_, now_ms, steps))
        return Answer(counts, now_ms, freshness.until(now_ms))

    async def _search(self, read: Callable[[], Awaitable[Counts]]) -> Counts:
        """Read, if there are not too many reads under way."""
        if not self._free:
            raise IndexUnavailable("too many reads are under way")
        self._free -= 1
        try:
            return await read()
        finally:
            self._free += 1

    def _remember(self, id_: str, answer: Answer) -> None:
        self._remembered[id_] = answer
        self._remembered.move_to_end(id_)
        if len(self._remembered) > self._remembered_ids:
            self._remembered.popitem(last=False)
