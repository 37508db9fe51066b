"""Answers reads: with fresh counts, or else the last known (stale) counts, or else an error.

It never returns 0 for a count that it could not read. Reads do not pile up when Elasticsearch is slow: each has a
timeout, and the number of reads in progress, the number of waiting reads and their waiting time are limited. Equal
reads share a search (coalescing.py). Reads do not call Redis: their as-of is the last one that queue_watch.py has seen,
and an as-of stays true.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

from hitcounter.errors import IndexUnavailable
from hitcounter.logs import get_logger

from hitcounter_api.coalescing import Coalescer, TooManyCalls
from hitcounter_api.counts import Counts, Steps
from hitcounter_api.metrics import ApiMetrics
from hitcounter_api.queue_watch import Freshness

_WAITING_PER_PLACE: Final = 32
"""Maximum number of waiting searches for each place. At 10 ms per search the last one waits a third of a second."""

log = get_logger()


class Reader(Protocol):
    """Reads counts."""

    async def read(self, id_: str, now_ms: int) -> Counts:
        """Return the hits of the id in each window that ends at now_ms."""

    async def read_history(self, id_: str, now_ms: int, steps: Steps) -> Counts:
        """Return the hits of the id in each step up to now_ms, the oldest first."""


class FreshnessSource(Protocol):
    """Knows how complete counts are."""

    @property
    def freshness(self) -> Freshness:
        """How complete counts are if they are read now."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The counts of one id up to a time, and how complete they are."""

    counts: Counts
    end_ms: int
    freshness: Freshness
    is_stale: bool = False

    def as_stale(self, backlog: int | None) -> Answer:
        """Return the same counts, marked as stale: they keep their as-of, and get the current backlog."""
        return replace(self, freshness=Freshness(self.freshness.as_of_ms, backlog), is_stale=True)


class Reads:
    """Reads counts, and keeps the last counts of recently read ids."""

    def __init__(
        self,
        reader: Reader,
        freshness: FreshnessSource,
        metrics: ApiMetrics,
        *,
        max_concurrent: int,
        max_wait_seconds: float,
        remembered_ids: int,
    ) -> None:
        self._reader = reader
        self._freshness = freshness
        self._metrics = metrics
        self._searches: Coalescer[tuple[str, Steps | None], Answer] = Coalescer(
            places=max_concurrent,
            max_waiting=max_concurrent * _WAITING_PER_PLACE,
            max_wait_seconds=max_wait_seconds,
        )
        self._remembered_ids = remembered_ids
        self._remembered: OrderedDict[str, Answer] = OrderedDict()

    async def read(self, id_: str, clock_ms: Callable[[], int]) -> Answer:
        """Return the counts of the id in the windows that end now, or the last known ones if Elasticsearch is down.

        "Now" is taken after the freshness, and the as-of is never later than it: later hits are not in the windows.

        Raises:
            IndexUnavailable: Elasticsearch is down and the id was not read recently.
            TooManyCalls: too many reads are in progress.
        """

        async def search() -> Answer:
            answer = await self._search(clock_ms, lambda now_ms: self._reader.read(id_, now_ms))
            # This never replaces a newer answer by an older one: the searches of one id run one after the other.
            self._remember(id_, answer)
            return answer

        return await self._measure(self._searches.share((id_, None), search), id_)

    async def read_history(self, id_: str, steps: Steps, clock_ms: Callable[[], int]) -> Answer:
        """Return the hits of the id in each step up to now. Histories are never stale: nothing is kept.

        Raises:
            IndexUnavailable: Elasticsearch is down.
            TooManyCalls: too many reads are in progress.
        """

        async def search() -> Answer:
            return await self._search(clock_ms, lambda now_ms: self._reader.read_history(id_, now_ms, steps))

        return await self._measure(self._searches.share((id_, steps), search), None)

    async def _search(self, clock_ms: Callable[[], int], read: Callable[[int], Awaitable[Counts]]) -> Answer:
        # Before the search, because hits that become countable later may be missing in its result.
        freshness = self._freshness.freshness
        now_ms = clock_ms()
        return Answer(await read(now_ms), now_ms, freshness.until(now_ms))

    async def _measure(self, reading: Awaitable[Answer], remembered_id: str | None) -> Answer:
        """Await an answer and count its result; if Elasticsearch is down, return the last answer for that id."""
        started = time.perf_counter()
        try:
            answer = await reading
        except TooManyCalls:
            self._metrics.reads.labels("full").inc()
            raise
        except IndexUnavailable as error:
            remembered = None if remembered_id is None else self._remembered.get(remembered_id)
            log.warning("counts are not available", is_remembered=remembered is not None, reason=str(error))
            if remembered is None:
                self._metrics.reads.labels("refused").inc()
                raise
            answer = remembered.as_stale(self._freshness.freshness.backlog)
        self._metrics.reads.labels("stale" if answer.is_stale else "fresh").inc()
        self._metrics.read_seconds.observe(time.perf_counter() - started)
        return answer

    def _remember(self, id_: str, answer: Answer) -> None:
        self._remembered[id_] = answer
        self._remembered.move_to_end(id_)
        if len(self._remembered) > self._remembered_ids:
            self._remembered.popitem(last=False)
