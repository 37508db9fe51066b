"""One of our own commands as a running process: `hitcounter-api`, `hitcounter-indexer`, or a stand-in for them."""

import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from hitcounter_devstack.environment import inherited_environment
from hitcounter_devstack.errors import DevstackError
from hitcounter_devstack.ports import http_status
from hitcounter_devstack.processes import GuardedProcess, LineHandler, wait_until_ready

READY_SECONDS = 30.0
TERMINATE_SECONDS = 30.0


class Service:
    """A service started from a command line. A context manager: ready inside the block, terminated after it.

    Args:
        command: program and arguments (see `command_path`).
        log_file: its output is appended here.
        environment: added to ours.
        ready_url: answers 200 when the service is ready.
        folder: its working directory; ours when None.
        on_line: also called with each line of its output, on a thread of its own.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log_file: Path,
        ready_url: str,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        on_line: LineHandler | None = None,
    ) -> None:
        self.command = [str(part) for part in command]
        self.name = Path(self.command[0]).name
        self.log_file = log_file
        self.ready_url = ready_url
        self.environment = {**inherited_environment(), **(environment or {})}
        self._folder = folder
        self._on_line = on_line
        self._process: GuardedProcess | None = None

    @property
    def pid(self) -> int:
        """The process id.

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
        """The exit code of the last run, negative for a signal; None while it runs."""
        return self._started().exit_code

    def start(self) -> Self:
        """Start it, again if it has ended; returns at once (see `wait_ready`). A no-op if it runs.

        Raises:
            StartError: it could not be executed.
        """
        if not self.is_running:
            self.log_file.parent.mkdir(parents=True, exist_ok=True)
            self._process = GuardedProcess(
                self.command,
                log_file=self.log_file,
                environment=self.environment,
                folder=self._folder,
                on_line=self._on_line,
            )
        return self

    def wait_ready(self, timeout_seconds: float = READY_SECONDS) -> Self:
        """Block until its ready URL answers 200.

        Raises:
            StartError: it ended, or was not ready in time; with its last lines.
        """
        wait_until_ready(self._started(), self.name, self.is_ready, timeout_seconds)
        return self

    def is_ready(self) -> bool:
        """Say whether it calls itself ready now."""
        return http_status(self.ready_url) == 200

    def wait(self, timeout_seconds: float) -> int:
        """Wait until it ends by itself and return the exit code.

        Raises:
            TimeoutError: it still runs.
        """
        return self._started().wait(timeout_seconds)

    def terminate(self, timeout_seconds: float = TERMINATE_SECONDS) -> int:
        """Ask it to end (SIGTERM), wait, and return its exit code: -9 if it had to be killed after the time."""
        return self._started().terminate(timeout_seconds)

    def kill(self) -> None:
        """End it by SIGKILL, as a crash would; blocks until it is gone."""
        self._started().kill()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to it and return at once."""
        self._started().signal_group(number)

    def pause(self) -> None:
        """Freeze it (SIGSTOP)."""
        self.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self.send_signal(signal.SIGCONT)

    def log_text(self) -> str:
        """Return all that it printed, over all of its starts."""
        return self._started().log_text()

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
        self.terminate()


def command_path(name: str) -> Path:
    """Return one of our commands: they are installed beside the Python that runs us."""
    return Path(sys.executable).parent / name
