"""How a request waits for the result of its hits, and how traces follow it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol

from hitcounter.errors import HitcounterError

Listener = Callable[[HitcounterError | None], None]
"""Called once with the result of a request's hits: None if they are in Redis, else why they are not acknowledged. The
error is a value, because a listener has no coroutine to raise it in; many requests may get the same one."""


def open_answer() -> tuple[asyncio.Future[HitcounterError | None], Listener]:
    """Return a future for a coroutine that waits, and the listener that sets it."""
    answer: asyncio.Future[HitcounterError | None] = asyncio.get_running_loop().create_future()

    def tell(error: HitcounterError | None) -> None:
        if not answer.done():  # its request was cancelled
            answer.set_result(error)

    return answer, tell


class Observer(Protocol):
    """Follows hits from the request to Redis. There is none unless tracing is enabled: see tracing.py."""

    def observe_hit(self, headers: Iterable[tuple[bytes, bytes]], answer: Listener) -> Listener:
        """Return the listener for a request of the hot path: the same, or one that observes its result."""

    def observe_hits(self, answer: Listener) -> Listener:
        """Return the listener for a request with several hits: the same, or one by which `send` knows the request."""

    async def send(
        self, listeners: Sequence[Listener], hits: int, send: Callable[[str], Awaitable[HitcounterError | None]]
    ) -> HitcounterError | None:
        """Send a batch with these listeners by calling `send` with the traceparent of the batch; return its result."""
