"""The open-loop client: hits leave when they are meant to, however the servers fare, and each answer goes on record.

It knows several APIs and uses whichever has a connection to spare, as clients behind any balancer do. Hits with a key
are repeated, through whichever API comes, until they are acknowledged; some are sent twice for no reason at all.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from array import array
from collections.abc import Sequence
from itertools import count
from typing import Final, Protocol

from hitcounter_benchmark.connection import NO_CONTENT, Answer, Connection
from hitcounter_benchmark.schedule import OpenLoop, Pace
from hitcounter_benchmark.tally import Outcome, classify
from hitcounter_benchmark.target import Target

from tests.chaos.record import Record, TrackedHit
from tests.chaos.requests import build_request

_LANES_OF_EACH_API: Final = 64
_LANES_OF_EACH_FAULTY_WAY: Final = 8
"""Few, since all their bytes go through a proxy in this very process."""
_TICK_SECONDS: Final = 0.001
_TIMEOUT_SECONDS: Final = 2.0
"""How long an answer is awaited: an API gives its own within a second."""
_RECONNECT_SECONDS: Final = 0.1
_REPEAT_SECONDS: Final = (0.1, 1.0)
_AGAIN_SECONDS: Final = (0.0, 10.0)
_AGAIN_SHARE: Final = 0.05
"""Hits with a key that are sent a second time whatever became of the first, some while that is still under way."""


class Hits(Protocol):
    """What to send."""

    def make(self) -> TrackedHit:
        """Return a hit that was never sent."""


class OpenLoopClient:
    """Sends hits as a pace asks for them; run it once, in one event loop.

    Attributes:
        record: what became of them.
        latencies: of the first attempts that were acknowledged: when each was meant to leave, and what it took from
            then on, in seconds.
        complaints: answers that no client should get.
        worst_tick_seconds: the longest that the client itself was kept from looking what is due, since somebody set
            this to 0: how busy the machine is.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        record: Record,
        *,
        pace: Pace,
        hits: Hits,
        seed: int,
        faulty_ways: Sequence[Target] = (),
    ) -> None:
        self.record = record
        self.latencies = (array("d"), array("d"))
        self.complaints: list[str] = []
        self.worst_tick_seconds = 0.0
        self._pace = pace
        self._hits = hits
        self.draw = random.Random(seed)
        ways = [*targets] * _LANES_OF_EACH_API + [*faulty_ways] * _LANES_OF_EACH_FAULTY_WAY
        self._lanes = [_Lane(self, way) for way in ways]
        self._idle: list[_Lane] = []
        self._repeats: list[tuple[float, int, TrackedHit]] = []
        self._order = count()
        self._start_ns = 0
        self._is_over = False

    async def run(self, start_ns: int) -> None:
        """Send until the time is over and the last answer is in, then repeat until cancelled.

        Args:
            start_ns: the beginning of the run, by time.perf_counter_ns.
        """
        self._start_ns = start_ns
        connecting = [asyncio.ensure_future(lane.keep_connected()) for lane in self._lanes]
        try:
            while True:
                before = time.perf_counter()
                await asyncio.sleep(_TICK_SECONDS)
                self._turn()
                self.worst_tick_seconds = max(self.worst_tick_seconds, time.perf_counter() - before)
        finally:
            for task in connecting:
                task.cancel()
            await asyncio.gather(*connecting, return_exceptions=True)
            for lane in self._lanes:
                lane.close()

    def stop_sending(self) -> None:
        """Send no new hits, whatever the profile says; those in doubt are repeated all the same."""
        self._pace = OpenLoop(iter(()), give_up_seconds=0)

    @property
    def is_clear(self) -> bool:
        """True once nothing more will be sent, and no hit with a key is in doubt."""
        is_over = self._pace.is_over(self._now_ns())
        return is_over and not self._repeats and not self.record.unclear and not any(lane.hit for lane in self._lanes)

    def _turn(self) -> None:
        now_ns = self._now_ns()
        for lane in self._lanes:
            lane.give_up_if_late(now_ns)
        while (idle := self._take_idle()) is not None:
            if not self._feed(idle, now_ns):
                self._rest(idle)
                return

    def _feed(self, lane: _Lane, now_ns: int) -> bool:
        """Let the lane send what is due, if anything is."""
        if self._repeats and self._repeats[0][0] <= now_ns:
            lane.fire(heapq.heappop(self._repeats)[2], None, now_ns)
            return True
        intended_ns = self._pace.take(now_ns)
        if intended_ns is None:
            return False
        hit = self._hits.make()
        if hit.key is not None and self.draw.random() < _AGAIN_SHARE:
            self._plan(hit, _AGAIN_SECONDS)
        lane.fire(hit, intended_ns, now_ns)
        return True

    def _take_idle(self) -> _Lane | None:
        """Return any lane that rests on a connection, so that all APIs get their share."""
        while self._idle:
            at = self.draw.randrange(len(self._idle))
            self._idle[at], self._idle[-1] = self._idle[-1], self._idle[at]
            lane = self._idle.pop()
            lane.is_resting = False
            if lane.is_connected:
                return lane
        return None

    def _rest(self, lane: _Lane) -> None:
        if not lane.is_resting:
            lane.is_resting = True
            self._idle.append(lane)

    def _plan(self, hit: TrackedHit, within_seconds: tuple[float, float]) -> None:
        at_ns = self._now_ns() + self.draw.uniform(*within_seconds) * 1e9
        heapq.heappush(self._repeats, (at_ns, next(self._order), hit))

    def _now_ns(self) -> int:
        return time.perf_counter_ns() - self._start_ns

    # What follows is called by the lanes.

    def is_free(self, lane: _Lane) -> None:
        """Give the lane something to do, or let it rest."""
        if not lane.is_resting and not self._feed(lane, self._now_ns()):
            self._rest(lane)

    def answered(self, hit: TrackedHit, intended_ns: int | None, answer: Answer) -> None:
        """Book an answer."""
        if answer is NO_CONTENT or answer.status == NO_CONTENT.status:
            if intended_ns is not None:
                self.latencies[0].append(intended_ns / 1e9)
                self.latencies[1].append((self._now_ns() - intended_ns) / 1e9)
            self.record.note_acknowledged(hit, time.time_ns() // 1_000_000)
            return
        outcome, kind = classify(answer.status, answer.body)
        if kind not in ("503 refused", "503 unknown") or not answer.headers.get("retry-after", "").isdecimal():
            self.complaints.append(
                f"{hit.id!r}, key {hit.key!r}, was answered {answer.status} {answer.headers} {answer.body!r}"
            )
        if outcome is Outcome.UNKNOWN:
            self.lost(hit, kind)
        else:
            self.record.note_refused(kind)
            self._repeat_if_needed(hit)

    def lost(self, hit: TrackedHit, kind: str) -> None:
        """Book a request without a clear answer."""
        self.record.note_unknown(hit, kind)
        self._repeat_if_needed(hit)

    def _repeat_if_needed(self, hit: TrackedHit) -> None:
        if hit.must_be_repeated:
            self._plan(hit, _REPEAT_SECONDS)


class _Lane:
    """One connection, replaced when it is lost, with at most one request in flight."""

    def __init__(self, client: OpenLoopClient, target: Target) -> None:
        self.hit: TrackedHit | None = None
        self.is_resting = False
        """Whether it waits to be taken; it may have lost its connection meanwhile."""
        self._client = client
        self._target = target
        self._intended_ns: int | None = None
        self._sent_ns = 0
        self._connection: Connection | None = None
        self._is_gone = asyncio.Event()

    @property
    def is_connected(self) -> bool:
        """Whether a request may be written."""
        return self._connection is not None and self._connection.is_open

    async def keep_connected(self) -> None:
        """Connect, and again whenever the connection is lost, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._is_gone.clear()
            try:
                _, self._connection = await loop.create_connection(
                    lambda: Connection(self._on_answer, self._on_lost), self._target.host, self._target.port
                )
            except OSError:
                await asyncio.sleep(_RECONNECT_SECONDS)
                continue
            self._client.is_free(self)
            await self._is_gone.wait()
            await asyncio.sleep(_RECONNECT_SECONDS)

    def fire(self, hit: TrackedHit, intended_ns: int | None, now_ns: int) -> None:
        """Send a hit; the lane must be connected and free."""
        assert self._connection is not None
        self.hit, self._intended_ns, self._sent_ns = hit, intended_ns, now_ns
        self._client.record.note_sent(hit)
        self._connection.send(build_request(self._target, hit, self._client.draw))

    def give_up_if_late(self, now_ns: int) -> None:
        """Cut the connection if its answer does not come."""
        if self.hit is not None and now_ns - self._sent_ns > _TIMEOUT_SECONDS * 1e9:
            self._end("time-out")
            self.close()

    def close(self) -> None:
        """Cut the connection."""
        if self._connection is not None:
            self._connection.close()

    def _on_answer(self, answer: Answer) -> None:
        if (hit := self.hit) is None:  # an answer after the time-out was booked as unknown already
            return
        self.hit = None
        self._client.answered(hit, self._intended_ns, answer)
        if self.is_connected:
            self._client.is_free(self)

    def _on_lost(self) -> None:
        self._end("connection cut")
        self._is_gone.set()

    def _end(self, kind: str) -> None:
        if (hit := self.hit) is not None:
            self.hit = None
            self._client.lost(hit, kind)
