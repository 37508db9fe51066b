"""One guarded process: started, observed, signalled, and always stopped.

Everything in the stack is a GuardedProcess. `guard.py` explains how it is kept from outliving its parent. The modules
above know what the process is (a store, a service).
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from hitcounter_devstack.errors import StartError
from hitcounter_devstack.users import User

POLL_SECONDS = 0.05
TAIL_LINES = 15

LineHandler = Callable[[str], None]


class GuardedProcess:
    """A running command under a guard. It runs once made; its maker ends it, or its guard does if the maker died.

    Args:
        command: program and arguments.
        log_file: its standard output and error are appended here.
        environment: all of its environment.
        folder: its working directory.
        user: the account to run as; None stays who we are.
        on_line: also called with each line of its output, on a thread of its own.
        held_lock: an open file descriptor that the guard holds as long as the process lives.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log_file: Path,
        environment: Mapping[str, str],
        folder: Path | None = None,
        user: User | None = None,
        on_line: LineHandler | None = None,
        held_lock: int | None = None,
    ) -> None:
        report_end, guard_end = os.pipe()
        options = {
            "report_fd": guard_end,
            "cwd": None if folder is None else str(folder),
            "uid": None if user is None else user.uid,
            "gid": None if user is None else user.gid,
        }
        with log_file.open("ab") as log:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", str(Path(__file__).with_name("guard.py")), json.dumps(options), *command],
                stdin=subprocess.PIPE,
                stdout=log if on_line is None else subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
                pass_fds=[guard_end] if held_lock is None else [guard_end, held_lock],
            )
        os.close(guard_end)
        self.log_file = log_file
        self._report = os.fdopen(report_end, "r")
        self._reader: threading.Thread | None = None
        if on_line is not None and self._guard.stdout is not None:
            arguments = (self._guard.stdout, log_file, on_line)
            self._reader = threading.Thread(target=_forward_lines, args=arguments, daemon=True)
            self._reader.start()
        first_line = self._report.readline().strip()
        if not first_line.isdecimal():
            self._close()
            raise StartError(f"{command[0]} could not be started: {first_line.removeprefix('error: ') or self.tail()}")
        self.pid = int(first_line)
        self._exit_code: int | None = None

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; None while the process runs."""
        if self._exit_code is None and self._guard.poll() is not None:
            self._settle()
        return self._exit_code

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended yet (a paused one runs)."""
        return self.exit_code is None

    def wait(self, timeout_seconds: float) -> int:
        """Wait for the end and return the exit code.

        Raises:
            TimeoutError: it still runs.
        """
        try:
            self._guard.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"pid {self.pid} still runs after {timeout_seconds} s") from None
        if self._exit_code is None:
            self._settle()
        return -signal.SIGKILL if self._exit_code is None else self._exit_code

    def terminate(self, timeout_seconds: float) -> int:
        """Ask it to end (SIGTERM), wait, and return the exit code; after the time it is killed.

        Only the leader is asked, as an init system would: it is the leader's task to end its own children.
        """
        if self.is_running:
            _signal(os.kill, self.pid, signal.SIGTERM)
            self.signal_group(signal.SIGCONT)
        try:
            return self.wait(timeout_seconds)
        except TimeoutError:
            return self.kill()

    def kill(self) -> int:
        """End it and its children with SIGKILL, and return the exit code once all are gone."""
        self.signal_group(signal.SIGKILL)
        return self.wait(10.0)

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to the process and all of its children; nothing happens when they have ended."""
        if self.is_running:
            _signal(os.killpg, self.pid, number)

    def tail(self, lines: int = TAIL_LINES) -> str:
        """Return the last lines of its output."""
        return "\n".join(self.log_text().splitlines()[-lines:])

    def log_text(self) -> str:
        """Return all of its output so far."""
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def _settle(self) -> None:
        last_line = self._report.readline().strip()
        self._exit_code = int(last_line) if last_line else -signal.SIGKILL
        self._close()

    def _close(self) -> None:
        if self._guard.stdin is not None:
            self._guard.stdin.close()
        self._guard.wait()
        if self._reader is not None:
            self._reader.join(timeout=5.0)
        if self._guard.stdout is not None:
            self._guard.stdout.close()
        self._report.close()


def _signal(send: Callable[[int, int], None], target: int, number: signal.Signals) -> None:
    try:
        send(target, number)
    except (ProcessLookupError, PermissionError):  # macOS answers EPERM when only zombies are left
        return


def _forward_lines(output: BinaryIO, log_file: Path, on_line: LineHandler) -> None:
    with log_file.open("ab", buffering=0) as log:
        for line in output:
            log.write(line)
            on_line(line.decode("utf-8", errors="replace").rstrip())


def wait_until_ready(process: GuardedProcess, what: str, is_ready: Callable[[], bool], timeout_seconds: float) -> None:
    """Poll `is_ready` until it holds.

    Raises:
        StartError: the process ended, or the time limit was reached; with its last lines.
    """
    deadline = time.monotonic() + timeout_seconds
    while not is_ready():
        if not process.is_running:
            raise StartError(f"{what} ended with exit code {process.exit_code}:\n{process.tail()}")
        if time.monotonic() > deadline:
            raise StartError(f"{what} was not ready after {timeout_seconds:.0f} s:\n{process.tail()}")
        time.sleep(POLL_SECONDS)
