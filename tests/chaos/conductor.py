"""Plays a schedule on an installation: each fault at its time, on a thread of its own, and nobody left for dead."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from redis.exceptions import RedisError

from tests.chaos.faults import FaultError, inflict
from tests.chaos.installation import Installation
from tests.chaos.schedule import Fault

_WATCH_SECONDS: Final = 0.2
_READY_SECONDS: Final = 240.0


@dataclass(frozen=True, slots=True)
class Incident:
    """A fault that has happened; times in seconds since the beginning of the run."""

    fault: Fault
    began_seconds: float
    undone_seconds: float
    ready_seconds: float
    """When the victim called itself ready again, if it has such a word; else as undone."""


class Conductor:
    """Plays one schedule.

    Attributes:
        incidents: the faults that have ended.
        complaints: parts that ended by themselves, or did not end when asked to.
    """

    def __init__(
        self,
        installation: Installation,
        start: float,
        say: Callable[[str], object],
    ) -> None:
        self.incidents: list[Incident] = []
        self.complaints: list[str] = []
        self._installation = installation
        self._start = start
        self._say = say
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._threads: list[threading.Thread] = []

    def play(self, schedule: Sequence[Fault]) -> None:
        """Play it; returns when every fault is undone and its victim back."""
        for fault in schedule:
            self.wait_until(fault.at_seconds)
            thread = threading.Thread(target=self._inflict, args=(fault,), name=f"{fault.kind} {fault.victim}")
            thread.start()
            self._threads.append(thread)
        for thread in self._threads:
            thread.join()

    def watch(self) -> None:
        """Complain of parts that have ended though nobody did anything to them, and start them again."""
        for name, part in self._installation.parts.items():
            lock = self._locks[name]
            if not lock.acquire(blocking=False):
                continue
            try:
                if not part.is_running:
                    self.complaints.append(f"{name} ended by itself with exit code {part.exit_code}: {part.tail()}")
                    part.start()
            finally:
                lock.release()

    def wait_until(self, at_seconds: float) -> None:
        """Wait until so many seconds after the beginning, and watch."""
        while (left_seconds := at_seconds - self._now_seconds()) > 0:
            self.watch()
            time.sleep(min(_WATCH_SECONDS, left_seconds))

    def _inflict(self, fault: Fault) -> None:
        with self._locks[fault.victim]:
            began = self._now_seconds()
            self._say(str(fault))
            try:
                with inflict(self._installation, fault):
                    time.sleep(fault.length_seconds)
            except (FaultError, TimeoutError, RedisError) as error:
                self.complaints.append(f"{fault.kind} {fault.victim} could not be done or undone: {error}")
            undone = self._now_seconds()
            self._wait_ready(fault.victim)
            self.incidents.append(Incident(fault, began, undone, self._now_seconds()))

    def _wait_ready(self, name: str) -> None:
        """Wait for a part that was hit itself, but not for ever: what it needs may be away by another fault."""
        part = self._installation.parts.get(name)
        deadline = time.monotonic() + _READY_SECONDS
        while part is not None and part.is_running and not part.is_ready() and time.monotonic() < deadline:
            time.sleep(_WATCH_SECONDS)

    def _now_seconds(self) -> float:
        return time.monotonic() - self._start
