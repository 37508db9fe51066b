"""The running stack: all parts start at once and stop in order.

Our services wait for Redis and Elasticsearch by themselves, so all parts can start at the same time, and the stack is
ready as soon as its slowest part.
"""

import os
import time
from collections.abc import Callable, Sequence

from hitcounter_devstack.console import Console
from hitcounter_devstack.errors import DevstackError, StartError
from hitcounter_devstack.part import Part
from hitcounter_devstack.processes import POLL_SECONDS
from hitcounter_devstack.server import Server


class RunningStack:
    """Parts that run together. Made with none running; `stop` must follow `start`, whatever happens in between.

    Args:
        parts: in the order in which they are stopped: who uses something comes before it.
        console: where to tell what happens.
        parent: the process whose end is ours too; None when nobody's is.
    """

    def __init__(self, parts: Sequence[Part], console: Console, parent: int | None = None) -> None:
        self._parts = parts
        self._parent = parent
        self._console = console

    def start(self) -> float:
        """Start all parts at once, block until all are ready, and return the seconds it took.

        Raises:
            StartError: a part ended, or was not ready in time; with its last lines.
        """
        self._console.say(f"starting {', '.join(part.name for part in self._parts)}")
        started = time.monotonic()
        # Ours are ready after the stores they wait for, so all get the time of the slowest.
        patience = max((part.ready_seconds for part in self._parts), default=0.0)
        for part in self._parts:
            part.log_file.unlink(missing_ok=True)  # the log of the last time
            part.start()
        waiting = list(self._parts)
        while waiting:
            self._check_alive()
            for part in [part for part in waiting if part.is_ready()]:
                waiting.remove(part)
                self._console.say(f"{part.name} is ready after {time.monotonic() - started:.1f} s")
            if waiting and time.monotonic() - started > patience:
                late = waiting[-1]  # the store rather than who waits for it
                raise StartError(f"{late.name} was not ready after {patience:.0f} s:\n{late.tail()}")
            time.sleep(POLL_SECONDS)
        return time.monotonic() - started

    def watch(self) -> None:
        """Block as long as all parts live: until somebody interrupts, or a part ends.

        Raises:
            StartError: a part ended; with its last lines.
            KeyboardInterrupt: make started us, and is gone.
        """
        while True:
            self._check_alive()
            if self._parent is not None and os.getppid() != self._parent:
                raise KeyboardInterrupt
            time.sleep(POLL_SECONDS)

    def stop(self) -> bool:
        """Stop all parts, one after the other in their order, and say whether each ended as it should."""
        ends = [self._stop(part) for part in self._parts]
        return all(ends)

    def kill(self) -> None:
        """End all parts at once, by force."""
        for part in self._parts:
            part.kill()

    def _stop(self, part: Part) -> bool:
        if not part.is_running:
            return True
        self._console.say(f"stopping {part.name}")
        exit_code = part.terminate()
        # A store may end with the signal's own code; ours promise 0.
        if exit_code == 0 or isinstance(part, Server):
            return True
        self._console.say(f"{part.name} ended with exit code {exit_code} when it was asked to stop")
        return False

    def _check_alive(self) -> None:
        for part in self._parts:
            if not part.is_running:
                raise StartError(f"{part.name} ended with exit code {part.exit_code}; its last lines:\n{part.tail()}")


def run_until_stopped(stack: RunningStack, console: Console, announce: Callable[[float], None]) -> int:
    """Start the stack, announce it (with the seconds it took), keep it, stop it; returns the exit status.

    KeyboardInterrupt is the wish to stop; a second one, while it stops, ends everything by force.
    """
    status = 0
    try:
        announce(stack.start())
        stack.watch()
    except KeyboardInterrupt:
        console.say("stopping")
    except DevstackError as error:
        console.say(str(error))
        status = 1
    try:
        return status if stack.stop() else 1
    except KeyboardInterrupt:
        console.say("ending everything by force")
        stack.kill()
        return 1
