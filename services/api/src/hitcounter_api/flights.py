"""One flight for equal questions: who asks while it is under way shares the next one, not this one.

Also known as request coalescing, or singleflight. The usual form lets everybody join the flight that is under way; here
nobody may once it has begun. Whoever asks may know what was not yet true when it began: that a hit was accepted, that
an as-of has passed. An answer from before the question would contradict that. So a hundred equal questions cost two
flights, and each answer is younger than its question.

A flight begins when there is a place for it. Places, the time to wait for one and the number of flights that wait have
bounds. Where a flight fails, the one that waited for it shares its failure: nobody waits for two outages in a row.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from hitcounter.errors import TransientError

_K = TypeVar("_K", bound=Hashable)
_T = TypeVar("_T")


class NoPlace(TransientError):
    """Too many flights are under way, or wait."""


class Flights(Generic[_K, _T]):
    """The flights of one kind, told apart by the question they answer. One event loop.

    Args:
        places: flights under way at once.
        max_waiting: flights that may wait for a place, or for the flight before them.
        max_wait_seconds: how long one may wait for a place.
    """

    def __init__(self, *, places: int, max_waiting: int, max_wait_seconds: float) -> None:
        self._places = asyncio.Semaphore(places)
        self._max_waiting = max_waiting
        self._max_wait_seconds = max_wait_seconds
        self._waiting: dict[_K, asyncio.Task[_T]] = {}
        self._under_way: dict[_K, asyncio.Task[_T]] = {}

    async def share(self, question: _K, find_answer: Callable[[], Awaitable[_T]]) -> _T:
        """Return the answer of a flight that begins after this call.

        Args:
            question: what is asked; calls with equal questions share flights.
            find_answer: asks it. Of the calls that share a flight, that of the first is called.

        Raises:
            NoPlace: there are too many flights.
        """
        flight = self._waiting.get(question)
        if flight is None:
            if len(self._waiting) >= self._max_waiting:
                raise NoPlace(f"{len(self._waiting):,} others wait already")
            # In a context of its own: what it logs belongs to all that share it.
            flight = asyncio.get_running_loop().create_task(
                self._fly(question, find_answer), context=contextvars.Context()
            )
            flight.add_done_callback(_retrieve)
            self._waiting[question] = flight
        return await asyncio.shield(flight)  # who gives up does not take the answer from the others

    async def _fly(self, question: _K, find_answer: Callable[[], Awaitable[_T]]) -> _T:
        has_place = False
        try:
            try:
                if (before := self._under_way.get(question)) is not None:
                    await asyncio.wait([before])
                    if not before.cancelled() and (error := before.exception()) is not None:
                        raise error
                has_place = await self._find_place()
            finally:
                flight = self._waiting.pop(question)
            self._under_way[question] = flight
            try:
                return await find_answer()
            finally:
                del self._under_way[question]
        finally:
            if has_place:
                self._places.release()

    async def _find_place(self) -> bool:
        try:
            async with asyncio.timeout(self._max_wait_seconds):
                return await self._places.acquire()
        except TimeoutError as error:
            raise NoPlace(f"no place was free for {self._max_wait_seconds:g} seconds") from error


def _retrieve(flight: asyncio.Task[_T]) -> None:
    """Take note of a failure that nobody waits for any more: asyncio would log it as one that was overlooked."""
    if not flight.cancelled():
        flight.exception()
