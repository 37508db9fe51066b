"""Waiting for conditions instead of sleeping."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

_T = TypeVar("_T")


async def until(condition: Callable[[], Awaitable[_T]], timeout_seconds: float = 60.0) -> _T:
    """Wait until what the condition returns is true, and return that.

    Raises:
        TimeoutError: it never was.
    """
    async with asyncio.timeout(timeout_seconds):
        while not (value := await condition()):  # noqa: ASYNC110 - any condition, without an event of its own
            await asyncio.sleep(0.01)
        return value
