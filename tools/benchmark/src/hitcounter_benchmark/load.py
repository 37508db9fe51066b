"""The load: lanes, each a connection with one request in flight, that follow a schedule.

There is no task and no future per request. The callback of a response records it and writes the next request, so a
request costs the client a few microseconds besides the system calls. Rare work (connecting, detecting missing
responses, hits that are due while every lane is idle) is done by one slow loop, `Load.run`.
"""

import asyncio
import time
from typing import Final

from hitcounter_benchmark.connection import NO_CONTENT, Answer, Connection
from hitcounter_benchmark.histogram import Histogram
from hitcounter_benchmark.mix import Mix
from hitcounter_benchmark.schedule import Pace
from hitcounter_benchmark.tally import Outcome, Tally, classify
from hitcounter_benchmark.target import Target

_TICK_SECONDS: Final = 0.001
"""How often the loop looks for sends that became due while all lanes were idle; also uvloop's timer resolution."""
_TIMEOUT_CHECK_SECONDS: Final = 0.05
_RECONNECT_MIN_SECONDS: Final = 0.02
_RECONNECT_MAX_SECONDS: Final = 1.0


class Load:
    """One load on one target: run it once, and watch its tally and histograms meanwhile."""

    def __init__(self, target: Target, mix: Mix, pace: Pace, *, workers: int, timeout_seconds: float) -> None:
        self.tally = Tally(mix)
        self.latency = Histogram()
        """Of acknowledged requests, from the intended time of sending."""
        self.stalls = Histogram()
        """By how much the client itself came late to its own loop: its share in the latencies above."""
        self.elapsed_ns = 0
        """From the first send to the last answer."""
        self.is_held = False
        """While this is set, nothing new is sent."""
        self._target = target
        self._mix = mix
        self._pace = pace
        self._timeout_ns = int(timeout_seconds * 1e9)
        self._lanes = [Lane(self) for _ in range(workers)]
        self._idle: set[Lane] = set()
        self._position = 0
        self._start_ns = 0
        self._next_timeout_check_ns = 0
        self._is_stopped = False

    async def run(self) -> None:
        """Send until the pace is over and every request was answered or given up."""
        self._start_ns = time.perf_counter_ns()
        connecting = [asyncio.ensure_future(lane.keep_connected(self._target)) for lane in self._lanes]
        try:
            while not self._is_finished(self._now_ns()):
                due_ns = self._now_ns() + int(_TICK_SECONDS * 1e9)
                await asyncio.sleep(_TICK_SECONDS)
                now_ns = self._now_ns()
                self.stalls.record(now_ns - due_ns)
                self._turn(now_ns)
        finally:
            for task, lane in zip(connecting, self._lanes, strict=True):
                task.cancel()
                lane.close()
            await asyncio.gather(*connecting, return_exceptions=True)
        unsent = self._pace.count_unsent()
        if unsent and not self._is_stopped:
            self.tally.errors["never sent"] = unsent

    def stop(self) -> None:
        """Send nothing more; `run` returns when the requests in flight are answered."""
        self._is_stopped = True

    def _turn(self, now_ns: int) -> None:
        if now_ns >= self._next_timeout_check_ns:
            self._next_timeout_check_ns = now_ns + int(_TIMEOUT_CHECK_SECONDS * 1e9)
            for lane in self._lanes:
                lane.give_up_if_late(now_ns, self._timeout_ns)
        while self._idle and self._feed(self._idle.pop(), now_ns):
            pass

    def _is_finished(self, now_ns: int) -> bool:
        is_over = self._is_stopped or self._pace.is_over(now_ns)
        return is_over and not any(lane.is_busy for lane in self._lanes)

    def _now_ns(self) -> int:
        return time.perf_counter_ns() - self._start_ns

    def _feed(self, lane: "Lane", now_ns: int) -> bool:
        """Let the lane send what is due, or rest; returns whether something was due."""
        intended_ns = None if self._is_stopped or self.is_held else self._pace.take(now_ns)
        if intended_ns is None:
            self._idle.add(lane)
            return False
        order = self._mix.order
        request = order[self._position % len(order)]
        self._position += 1
        lane.fire(request, self._mix.requests[request], intended_ns, now_ns)
        return True

    # What follows is called by the lanes.

    def answered(self, lane: "Lane", answer: Answer) -> None:
        """Book the lane's answer and give it the next request."""
        now_ns = time.perf_counter_ns() - self._start_ns
        if answer is NO_CONTENT or answer.status == NO_CONTENT.status:
            self.tally.acknowledged[lane.request] += 1
            self.latency.record(now_ns - lane.intended_ns)
        else:
            self.tally.miss(lane.request, *classify(answer.status, answer.body))
        self.elapsed_ns = now_ns
        if lane.is_connected:
            self._feed(lane, now_ns)

    def lost(self, lane: "Lane", kind: str) -> None:
        """Book a request whose answer will never come."""
        self.tally.miss(lane.request, Outcome.UNKNOWN, kind)
        self.elapsed_ns = self._now_ns()

    def connected(self, lane: "Lane") -> None:
        """Take a new connection into service."""
        self._feed(lane, self._now_ns())

    def disconnected(self, lane: "Lane") -> None:
        """Rest no more on a connection that is gone."""
        self._idle.discard(lane)

    def could_not_connect(self, kind: str) -> None:
        """Count an attempt to connect; nothing was sent, so no hit is in doubt."""
        self.tally.errors[kind] += 1


class Lane:
    """One connection of the load, replaced when it is lost, with at most one request in flight."""

    def __init__(self, load: Load) -> None:
        self.request = 0
        """Index of the last request sent."""
        self.intended_ns = 0
        self.is_busy = False
        self._load = load
        self._sent_ns = 0
        self._connection: Connection | None = None
        self._is_gone = asyncio.Event()

    @property
    def is_connected(self) -> bool:
        """Whether a request may be written."""
        return self._connection is not None and self._connection.is_open

    async def keep_connected(self, target: Target) -> None:
        """Connect, and again whenever the connection is lost, until cancelled."""
        pause_seconds = _RECONNECT_MIN_SECONDS
        while True:
            try:
                await self._connect(target)
            except OSError as error:
                self._load.could_not_connect(_name_failure(error))
                await asyncio.sleep(pause_seconds)
                pause_seconds = min(2 * pause_seconds, _RECONNECT_MAX_SECONDS)
                continue
            await self._is_gone.wait()
            pause_seconds = _RECONNECT_MIN_SECONDS
            await asyncio.sleep(pause_seconds)  # a server that hangs up at once must not make us spin

    def fire(self, request: int, payload: bytes, intended_ns: int, now_ns: int) -> None:
        """Send a request; the lane must be connected and not busy."""
        assert self._connection is not None  # noqa: S101 -- the caller's duty
        self.request = request
        self.intended_ns = intended_ns
        self._sent_ns = now_ns
        self.is_busy = True
        self._connection.send(payload)

    def give_up_if_late(self, now_ns: int, timeout_ns: int) -> None:
        """Cut the connection if its answer has been awaited for longer than the time-out."""
        if self.is_busy and now_ns - self._sent_ns > timeout_ns:
            self.is_busy = False
            self._load.lost(self, "time-out")
            self.close()

    def close(self) -> None:
        """Cut the connection."""
        if self._connection is not None:
            self._connection.close()

    async def _connect(self, target: Target) -> None:
        self._is_gone.clear()
        loop = asyncio.get_running_loop()
        make = lambda: Connection(self._on_answer, self._on_lost)  # noqa: E731
        _, self._connection = await loop.create_connection(make, target.host, target.port)
        if self.is_connected:
            self._load.connected(self)

    def _on_answer(self, answer: Answer) -> None:
        if self.is_busy:  # an answer after the time-out was booked as unknown already
            self.is_busy = False
            self._load.answered(self, answer)

    def _on_lost(self) -> None:
        self._load.disconnected(self)
        if self.is_busy:
            self.is_busy = False
            self._load.lost(self, "connection cut")
        self._is_gone.set()


def _name_failure(error: OSError) -> str:
    return "connection refused" if isinstance(error, ConnectionRefusedError) else f"no connection ({error.strerror})"
