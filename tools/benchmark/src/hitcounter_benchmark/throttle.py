"""Holding a process to a share of a core, by stopping and continuing it.

On a machine with few cores, four indexers at full speed show only that four processes want two cores. Held to a tenth
of a core each, they show whether the work divides among them. SIGSTOP and SIGCONT do that on any machine and for any
user; a control group's quota would need root, and differs between versions of the kernel.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

_TICK_SECONDS: Final = 0.01
_SAVED_SECONDS: Final = 0.02
"""Processor time that a process may save up while it waits for others: without a bound it could catch up later."""


class Budget:
    """The processor time of one process against its share. Pure: it is told the time, and what was used."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._left_seconds = 0.0

    def has_left(self, elapsed_seconds: float, used_seconds: float) -> bool:
        """Book a stretch of time and what the process used in it; returns whether it may go on."""
        self._left_seconds = min(self._left_seconds + self._share * elapsed_seconds - used_seconds, _SAVED_SECONDS)
        return self._left_seconds >= 0


@contextlib.contextmanager
def throttled(pids: Sequence[int], share: float) -> Iterator[None]:
    """Hold each process to the share of one core inside the block; afterwards they run freely."""
    is_over = threading.Event()
    thread = threading.Thread(target=_hold, args=(pids, share, is_over))
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _hold(pids: Sequence[int], share: float, is_over: threading.Event) -> None:
    budgets = {pid: Budget(share) for pid in pids}
    used = {pid: _read_used_seconds(pid) for pid in pids}
    before = time.monotonic()
    while not is_over.wait(_TICK_SECONDS):
        now = time.monotonic()
        for pid, budget in budgets.items():
            used_now = _read_used_seconds(pid)
            may_run = budget.has_left(now - before, used_now - used[pid])
            os.kill(pid, signal.SIGCONT if may_run else signal.SIGSTOP)
            used[pid] = used_now
        before = now
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def _read_used_seconds(pid: int) -> float:
    """Return the processor time of all threads, to the nanosecond: the clock ticks of ``stat`` are too coarse here."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
