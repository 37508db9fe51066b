"""A few keep-alive connections with ``await``, for reads and probes during the load."""

import asyncio
from collections import deque
from typing import Final

from hitcounter_benchmark.connection import Answer, Connection
from hitcounter_benchmark.target import Target

_TIMEOUT_SECONDS: Final = 10.0
"""For one read; far above what any answer takes that is still worth having."""


class ClientError(Exception):
    """No answer: no connection, a cut one, or none in time. The message is a clause for the user."""


class Client:
    """At most ``connections`` requests at a time; the others wait their turn.

    Use it as an async context manager, or `close` it.
    """

    def __init__(self, target: Target, connections: int) -> None:
        self.target = target
        self.connections = connections
        self._turn = asyncio.Semaphore(connections)
        self._free: deque[_Exchange] = deque()

    async def __aenter__(self) -> "Client":
        """Open nothing yet."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every connection."""
        self.close()

    def close(self) -> None:
        """Close every connection that is not in use."""
        while self._free:
            self._free.pop().close()

    async def ask(self, request: bytes) -> Answer:
        """Send a request and return the answer.

        Raises:
            ClientError: There was none.
        """
        async with self._turn:
            exchange = await self._take()
            try:
                # Not asyncio.wait_for: before Python 3.12 it may swallow a cancellation that meets the answer.
                async with asyncio.timeout(_TIMEOUT_SECONDS):
                    return await exchange.ask(request)
            except TimeoutError as error:
                raise ClientError(f"no answer in {_TIMEOUT_SECONDS:.0f} s") from error
            finally:
                self._give_back(exchange)

    async def _take(self) -> "_Exchange":
        while self._free:
            exchange = self._free.pop()
            if exchange.is_ready:
                return exchange
        exchange = _Exchange()
        try:
            await exchange.connect(self.target)
        except OSError as error:
            reason = "connection refused" if isinstance(error, ConnectionRefusedError) else str(error)
            raise ClientError(reason) from error
        return exchange

    def _give_back(self, exchange: "_Exchange") -> None:
        if exchange.is_ready:
            self._free.append(exchange)
        else:
            exchange.close()


class _Exchange:
    """One connection, and the future of the answer that it waits for."""

    def __init__(self) -> None:
        self._connection = Connection(self._on_answer, self._on_lost)
        self._answer: asyncio.Future[Answer] | None = None

    @property
    def is_ready(self) -> bool:
        return self._connection.is_open and (self._answer is None or self._answer.done())

    async def connect(self, target: Target) -> None:
        await asyncio.get_running_loop().create_connection(lambda: self._connection, target.host, target.port)

    async def ask(self, request: bytes) -> Answer:
        self._answer = asyncio.get_running_loop().create_future()
        try:
            self._connection.send(request)
            return await self._answer
        except ConnectionError as error:
            raise ClientError("connection cut") from error
        except asyncio.CancelledError:
            self.close()  # the late answer must not become the next request's
            raise

    def close(self) -> None:
        self._connection.close()

    def _on_answer(self, answer: Answer) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)

    def _on_lost(self) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError())
