"""Answering reads in good times and in bad: fresh counts, else the last known ones, else an error.

It never returns 0 for a count it could not read. A slow Elasticsearch cannot pile up reads here: each has a time-out,
only so many are under way at once, only so many wait for a place, and none of them for long. Equal reads share a search
(flights.py). No read asks Redis: its as-of is that of the queue watch's last look, and an as-of stays true.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

from hitcounter.errors import IndexUnavailable
from hitcounter.logs import get_logger

from hitcounter_api.counts import Counts, Steps
from hitcounter_api.flights import Flights, NoPlace
from hitcounter_api.metrics import ApiMetrics
from hitcounter_api.queue_watch import Freshness

_WAITING_PER_PLACE: Final = 32
"""Searches that may wait for each that may be under way. At 10 ms a search the last of them waits a third of a second.
"""

log = get_logger()


class Reader(Protocol):
    """Where counts come from."""

    async def read(self, id_: str, now_ms: int) -> Counts:
        """Return the hits of the id in each window that ends at now_ms."""

    async def read_history(self, id_: str, now_ms: int, steps: Steps) -> Counts:
        """Return the hits of the id in each step up to now_ms, the oldest first."""


class FreshnessSource(Protocol):
    """Who knows how complete counts are."""

    @property
    def freshness(self) -> Freshness:
        """How complete counts are that are read from now on."""


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
        max_wait_seconds: float,
        remembered_ids: int,
    ) -> None:
        self._reader = reader
        self._freshness = freshness
        self._metrics = metrics
        self._flights: Flights[tuple[str, Steps | None], Answer] = Flights(
            places=max_concurrent,
            max_waiting=max_concurrent * _WAITING_PER_PLACE,
            max_wait_seconds=max_wait_seconds,
        )
        self._remembered_ids = remembered_ids
        self._remembered: OrderedDict[str, Answer] = OrderedDict()

    async def read(self, id_: str, clock_ms: Callable[[], int]) -> Answer:
        """Return the counts of the id in the windows that end now, or, with Elasticsearch away, the last known ones.

        Now is once the freshness is known, and the as-of is never later than it: later hits are not in the windows.

        Raises:
            IndexUnavailable: Elasticsearch is away and the id was not read lately.
            NoPlace: too many reads are under way.
        """

        async def search() -> Answer:
            answer = await self._search(clock_ms, lambda now_ms: self._reader.read(id_, now_ms))
            # Never an older answer over a newer one: the flights of one id follow each other.
            self._remember(id_, answer)
            return answer

        return await self._measure(self._flights.share((id_, None), search), id_)

    async def read_history(self, id_: str, steps: Steps, clock_ms: Callable[[], int]) -> Answer:
        """Return the hits of the id in each step up to now. Nothing of it is remembered: a chart may be missing.

        Raises:
            IndexUnavailable: Elasticsearch is away.
            NoPlace: too many reads are under way.
        """

        async def search() -> Answer:
            return await self._search(clock_ms, lambda now_ms: self._reader.read_history(id_, now_ms, steps))

        return await self._measure(self._flights.share((id_, steps), search), None)

    async def _search(self, clock_ms: Callable[[], int], read: Callable[[int], Awaitable[Counts]]) -> Answer:
        # Before the search: hits that become countable after it may be missing, whatever the as-of says by then.
        freshness = self._freshness.freshness
        now_ms = clock_ms()
        return Answer(await read(now_ms), now_ms, freshness.until(now_ms))

    async def _measure(self, reading: Awaitable[Answer], remembered_id: str | None) -> Answer:
        """Await an answer, count how it went, and fall back to the last one of that id where Elasticsearch is away."""
        started = time.perf_counter()
        try:
            answer = await reading
        except NoPlace:
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
