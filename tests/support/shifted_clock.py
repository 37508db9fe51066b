"""A service whose wall clock is wrong, by as much as a test likes and whenever it likes (shifted_clock.c)."""

from __future__ import annotations

import functools
import struct
import time
from pathlib import Path

from hitcounter_devstack import RedisServer
from hitcounter_devstack.server import Command

from tests.support.preload import build_library

_SOURCE = Path(__file__).with_suffix(".c")


class ShiftedClock:
    """The clock of one service, or of several on the same machine.

    Attributes:
        environment: makes a service go by this clock.
    """

    def __init__(self, folder: Path, *, seconds: float = 0.0) -> None:
        library = folder / "shifted_clock.so"
        build_library(_SOURCE, library)
        self._file = folder / "shifted_clock"
        self._seconds = 0.0
        self.set(seconds)
        self.environment = {"LD_PRELOAD": str(library), "SHIFTED_CLOCK_FILE": str(self._file)}

    def set(self, seconds: float) -> None:
        """Set the clock: so many seconds ahead of the true time, behind it if negative."""
        self._seconds = seconds
        # In place: the services have the file mapped.
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("=q", round(seconds * 1e9)))

    def time(self) -> float:
        """Return what it shows now, in seconds since the Unix epoch."""
        return time.time() + self._seconds


class ClockedRedis(RedisServer):
    """A Redis that goes by a clock of its own."""

    @functools.cached_property
    def clock(self) -> ShiftedClock:
        """Its clock, which may be set at any time."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        return ShiftedClock(self.data_dir)

    def _prepare(self) -> Command:
        command = super()._prepare()
        return Command(command.arguments, {**command.environment, **self.clock.environment}, command.user)
