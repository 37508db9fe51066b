"""A client that keeps its own record: which hits were acknowledged, and of which it cannot know."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType

import aiohttp


class RecordingClient:
    """Sends hits as fast as a few connections can, on a thread of its own, until the block ends.

    Attributes:
        acknowledged: hits answered with 204, by id.
        unknown: hits that may or may not have been taken (cut, timed out, 503 with outcome unknown), by id.
        answers: how often each status, or kind of failure, was seen.
    """

    def __init__(
        self, urls: Sequence[str], *, ids: int = 50, connections: int = 16, timeout_seconds: float = 5.0
    ) -> None:
        self._urls = list(urls)
        self._ids = [f"id-{number}" for number in range(ids)]
        self._connections = connections
        self._timeout_seconds = timeout_seconds
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="recording client")
        self._stop = threading.Event()
        self.acknowledged: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()

    def __enter__(self) -> RecordingClient:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def add_url(self, url: str) -> None:
        """Use another API, too."""
        self._urls.append(url)

    def stop(self) -> None:
        """Send no more, and wait until every answer is in or given up."""
        self._stop.set()
        self._thread.join(self._timeout_seconds + 10)

    def wait_for(self, hits: int, timeout_seconds: float = 90.0) -> None:
        """Wait until that many more hits were acknowledged.

        Raises:
            TimeoutError: they were not.
        """
        goal, deadline = self.acknowledged.total() + hits, time.monotonic() + timeout_seconds
        while self.acknowledged.total() < goal:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.acknowledged.total()} of {goal} hits acknowledged; answers: {self.answers}")
            time.sleep(0.01)

    async def _run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=self._timeout_seconds)
        connector = aiohttp.TCPConnector(limit=self._connections)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            await asyncio.gather(*(self._send_on(session) for _ in range(self._connections)))

    async def _send_on(self, session: aiohttp.ClientSession) -> None:
        while not self._stop.is_set():
            id_ = random.choice(self._ids)
            kind = await self._send(session, id_)
            self.answers[kind] += 1
            if kind == "204":
                self.acknowledged[id_] += 1
            elif kind not in ("refused", "not connected"):
                self.unknown[id_] += 1
            if kind != "204":
                await asyncio.sleep(0.01)

    async def _send(self, session: aiohttp.ClientSession, id_: str) -> str:
        try:
            async with session.post(f"{random.choice(self._urls)}/analytics", json={"id": id_}) as answer:
                if answer.status == 204:
                    return "204"
                problem = await answer.json(content_type=None)
                if answer.status == 503 and "Retry-After" not in answer.headers:
                    return "503 without Retry-After"
                return str(problem.get("outcome", answer.status))
        except aiohttp.ClientConnectorError:
            return "not connected"
        except (aiohttp.ClientError, TimeoutError) as error:
            return type(error).__name__
