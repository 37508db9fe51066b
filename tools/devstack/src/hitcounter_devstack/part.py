"""A part of the stack: a process that is started, becomes ready, and is stopped, killed, frozen or restarted.

Stores and our services share this life cycle. Subclasses define what runs and when it is ready.
"""

import abc
import signal
from pathlib import Path
from typing import Self

from hitcounter_devstack.errors import DevstackError
from hitcounter_devstack.processes import GuardedProcess, wait_until_ready


class Part(abc.ABC):
    """One part, run as a process. A context manager: ready inside the block, stopped after it.

    Attributes:
        name: what people call it.
        ready_seconds: how long `wait_ready` waits unless told otherwise.
        stop_seconds: how long `stop` waits before it uses force.
    """

    name: str
    ready_seconds: float = 30.0
    stop_seconds: float = 30.0

    def __init__(self) -> None:
        self._process: GuardedProcess | None = None

    @property
    @abc.abstractmethod
    def log_file(self) -> Path:
        """Everything it printed, over all of its starts."""

    @abc.abstractmethod
    def is_ready(self) -> bool:
        """Say whether it serves now; takes a second or two at most."""

    @abc.abstractmethod
    def _launch(self) -> GuardedProcess:
        """Start the process, with whatever has to be prepared before."""

    @property
    def pid(self) -> int:
        """The process id, of the last run if that has ended.

        Raises:
            DevstackError: it was never started.
        """
        return self._started().pid

    @property
    def is_running(self) -> bool:
        """Whether its process lives (a paused one does)."""
        return self._process is not None and self._process.is_running

    @property
    def exit_code(self) -> int | None:
        """The exit code of the last run, negative for a signal; None while it runs.

        Raises:
            DevstackError: it was never started.
        """
        return self._started().exit_code

    def start(self) -> Self:
        """Start it, again if it has ended, and return at once (see `wait_ready`). A no-op if it runs.

        Raises:
            MissingPartError: the program is not to be had here.
            DataInUseError: another process works on its data.
            StartError: it could not be executed.
        """
        if not self.is_running:
            self.log_file.parent.mkdir(parents=True, exist_ok=True)
            self._process = self._launch()
        return self

    def wait_ready(self, timeout_seconds: float | None = None) -> Self:
        """Block until it serves.

        Raises:
            StartError: it ended, or was not ready in time; with its last lines.
        """
        seconds = self.ready_seconds if timeout_seconds is None else timeout_seconds
        wait_until_ready(self._started(), self.name, self.is_ready, seconds)
        return self

    def wait(self, timeout_seconds: float) -> int:
        """Wait until it ends by itself and return the exit code.

        Raises:
            TimeoutError: it still runs.
        """
        return self._started().wait(timeout_seconds)

    def terminate(self, timeout_seconds: float | None = None) -> int:
        """Ask it to end (SIGTERM), wait, and return its exit code: -9 if it had to be killed after the time."""
        return self._started().terminate(self.stop_seconds if timeout_seconds is None else timeout_seconds)

    def stop(self) -> None:
        """End it gracefully, by force after `stop_seconds`; blocks until it is gone. A no-op if it does not run."""
        if self._process is not None:
            self.terminate()

    def kill(self) -> None:
        """End it by SIGKILL, as a crash would; blocks until it is gone and its port is free."""
        if self._process is not None:
            self._process.kill()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to it and its children, and return at once. A no-op if it has ended."""
        self._started().signal_group(number)

    def pause(self) -> None:
        """Freeze it (SIGSTOP): its connections stay open and get no answer."""
        self.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self.send_signal(signal.SIGCONT)

    def log_text(self) -> str:
        """Return all that it printed, over all of its starts."""
        return self.log_file.read_text(encoding="utf-8", errors="replace") if self.log_file.exists() else ""

    def tail(self) -> str:
        """Return the last lines that it printed."""
        return self._started().tail()

    def _started(self) -> GuardedProcess:
        if self._process is None:
            raise DevstackError(f"{self.name} was not started")
        return self._process

    def __enter__(self) -> Self:
        self.start()
        try:
            return self.wait_ready()
        except BaseException:
            self.kill()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()
