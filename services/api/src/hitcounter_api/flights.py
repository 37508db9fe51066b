"""Request coalescing (singleflight): equal questions that are asked at the same time share one flight.

The usual form lets a caller join a flight that is already running. Here a caller joins only a flight that has not
started yet. The caller may know something that was not true when the running flight started, such as an accepted hit or
a later as-of, and an older answer would contradict it. So a hundred equal questions need two flights, and each answer
is newer than its question.

A flight starts when a place is free. The number of places, the time to wait for one and the number of waiting flights
are limited. If a flight fails, the one that waits for it fails, too, so that no caller waits for two failures in a row.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from hitcounter.errors import TransientError

_K = TypeVar("_K", bound=Hashable)
_T = TypeVar("_T")


class NoPlace(TransientError):
    """Too many flights are running or waiting."""


class Flights(Generic[_K, _T]):
    """The flights of one kind, by the question that they answer. For one event loop.

    Args:
        places: maximum number of flights that run at once.
        max_waiting: maximum number of flights that wait for a place or for the flight before them.
        max_wait_seconds: how long a flight may wait for a place.
    """

    def __init__(self, *, places: int, max_waiting: int, max_wait_seconds: float) -> None:
        self._places = asyncio.Semaphore(places)
        self._max_waiting = max_waiting
        self._max_wait_seconds = max_wait_seconds
        self._waiting: dict[_K, asyncio.Task[_T]] = {}
        self._under_way: dict[_K, asyncio.Task[_T]] = {}

    async def share(self, question: _K, find_answer: Callable[[], Awaitable[_T]]) -> _T:
        """Return the answer of a flight that starts after this call.

        Args:
            question: calls with equal questions share flights.
            find_answer: finds the answer. For a shared flight, that of the first caller is used.

        Raises:
            NoPlace: there are too many flights.
        """
        flight = self._waiting.get(question)
        if flight is None:
            if len(self._waiting) >= self._max_waiting:
                raise NoPlace(f"{len(self._waiting):,} others are already waiting")
            # It inherits the context of the first caller: the search is part of the trace of that request.
            flight = asyncio.get_running_loop().create_task(self._fly(question, find_answer))
            flight.add_done_callback(_retrieve)
            self._waiting[question] = flight
        return await asyncio.shield(flight)  # a cancelled caller must not cancel the others

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
    """Retrieve a failure that no caller waits for any more; otherwise asyncio would log it as never retrieved."""
    if not flight.cancelled():
        flight.exception()
