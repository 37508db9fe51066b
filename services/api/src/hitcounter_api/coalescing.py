"""Request coalescing (singleflight): equal questions that are asked at the same time share one call.

The usual form lets a caller join a call that is already running. Here a caller joins only a call that has not started
yet. The caller may know something that was not true when the running call started, such as an accepted hit or a later
as-of, and an older answer would contradict it. So a hundred equal questions need two calls, and each answer is newer
than its question.

A call starts when a place is free. The number of places, the time to wait for one and the number of waiting calls are
limited. If a call fails, the one that waits for it fails, too, so that no caller waits for two failures in a row.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from hitcounter.errors import TransientError

_K = TypeVar("_K", bound=Hashable)
_T = TypeVar("_T")


class TooManyCalls(TransientError):
    """Too many calls are running or waiting."""


class Coalescer(Generic[_K, _T]):
    """The calls of one kind, by the question that they answer. For one event loop.

    Args:
        places: maximum number of calls that run at once.
        max_waiting: maximum number of calls that wait for a place or for the call before them.
        max_wait_seconds: how long a call may wait for a place.
    """

    def __init__(self, *, places: int, max_waiting: int, max_wait_seconds: float) -> None:
        self._places = asyncio.Semaphore(places)
        self._max_waiting = max_waiting
        self._max_wait_seconds = max_wait_seconds
        self._waiting: dict[_K, asyncio.Task[_T]] = {}
        self._running: dict[_K, asyncio.Task[_T]] = {}

    async def share(self, question: _K, find_answer: Callable[[], Awaitable[_T]]) -> _T:
        """Return the answer of a call that starts after this method is called.

        Args:
            question: equal questions share calls.
            find_answer: finds the answer. For a shared call, that of the first caller is used.

        Raises:
            TooManyCalls: too many calls are running or waiting.
        """
        call = self._waiting.get(question)
        if call is None:
            if len(self._waiting) >= self._max_waiting:
                raise TooManyCalls(f"{len(self._waiting):,} others are already waiting")
            # It inherits the context of the first caller: the search is part of the trace of that request.
            call = asyncio.get_running_loop().create_task(self._call(question, find_answer))
            call.add_done_callback(_retrieve)
            self._waiting[question] = call
        return await asyncio.shield(call)  # a cancelled caller must not cancel the others

    async def _call(self, question: _K, find_answer: Callable[[], Awaitable[_T]]) -> _T:
        has_place = False
        try:
            try:
                if (before := self._running.get(question)) is not None:
                    await asyncio.wait([before])
                    if not before.cancelled() and (error := before.exception()) is not None:
                        raise error
                has_place = await self._find_place()
            finally:
                call = self._waiting.pop(question)
            self._running[question] = call
            try:
                return await find_answer()
            finally:
                del self._running[question]
        finally:
            if has_place:
                self._places.release()

    async def _find_place(self) -> bool:
        try:
            async with asyncio.timeout(self._max_wait_seconds):
                return await self._places.acquire()
        except TimeoutError as error:
            raise TooManyCalls(f"no place was free for {self._max_wait_seconds:g} seconds") from error


def _retrieve(call: asyncio.Task[_T]) -> None:
    """Retrieve a failure that no caller waits for any more; otherwise asyncio would log it as never retrieved."""
    if not call.cancelled():
        call.exception()
