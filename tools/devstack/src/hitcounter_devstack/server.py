"""What Redis and Elasticsearch have in common here: one life cycle, over a port and a data folder.

Port and data outlast a stop or a kill. Knows nothing of either store: the subclasses say
which command to run and when it is ready.
"""

import abc
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from hitcounter_devstack.environment import inherited_environment
from hitcounter_devstack.errors import DevstackError
from hitcounter_devstack.locks import lock_data
from hitcounter_devstack.ports import free_port
from hitcounter_devstack.processes import GuardedProcess, LineHandler, wait_until_ready
from hitcounter_devstack.users import User


@dataclass(frozen=True)
class Command:
    """How to start a server: arguments, what to add to our environment, and whom to run it as (None: as ourselves)."""

    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    user: User | None = None


class Server(abc.ABC):
    """One real server on this machine. A context manager: ready inside the block, gone after it.

    It keeps its port and its data from one `start` to the next, so a test may kill it and bring it back where
    clients look for it.

    Args:
        data_dir: where its files live; made when absent, never deleted.
        port: the port to listen on; None takes a free one, once.
        on_line: called with each line of its log, which also goes to `log_file`.
    """

    name: str
    start_seconds: float
    stop_seconds: float

    def __init__(self, data_dir: Path, *, port: int | None = None, on_line: LineHandler | None = None) -> None:
        self.data_dir = data_dir.absolute()
        self.port = free_port() if port is None else port
        self._on_line = on_line
        self._process: GuardedProcess | None = None

    @property
    @abc.abstractmethod
    def url(self) -> str:
        """Where clients find it."""

    @property
    @abc.abstractmethod
    def version(self) -> str:
        """The version of the program."""

    @abc.abstractmethod
    def _prepare(self) -> Command:
        """Fetch what is missing, write the configuration, and say how to start."""

    @abc.abstractmethod
    def _is_ready(self) -> bool:
        """Say whether it serves requests now."""

    @property
    def log_file(self) -> Path:
        """Everything the server printed, over all of its starts."""
        return self.data_dir / "server.log"

    @property
    def pid(self) -> int:
        """The process id of the real server.

        Raises:
            DevstackError: it does not run.
        """
        return self._running().pid

    @property
    def is_running(self) -> bool:
        """Whether its process lives (a paused one does)."""
        return self._process is not None and self._process.is_running

    def start(self) -> Self:
        """Start it, on the port and data it had before, and return at once (see `wait_ready`). A no-op if it runs.

        Raises:
            MissingPartError: the program is not to be had here.
            DataInUseError: another server works on the data.
            StartError: it could not be executed.
        """
        if self.is_running:
            return self
        self.data_dir.mkdir(parents=True, exist_ok=True)
        command = self._prepare()
        lock = lock_data(self.data_dir)
        try:
            self._process = GuardedProcess(
                command.arguments,
                log_file=self.log_file,
                environment={**inherited_environment(), **command.environment},
                folder=self.data_dir,
                user=command.user,
                on_line=self._on_line,
                held_lock=lock,
            )
        finally:
            os.close(lock)  # the guard has its copy
        return self

    def wait_ready(self, timeout_seconds: float | None = None) -> Self:
        """Block until it serves requests.

        Raises:
            StartError: it ended, or was not ready in time; with its last lines.
        """
        seconds = self.start_seconds if timeout_seconds is None else timeout_seconds
        wait_until_ready(self._running(), f"{self.name} {self.version}", self._is_ready, seconds)
        return self

    def stop(self) -> None:
        """End it gracefully, by force after `stop_seconds`; blocks until it is gone. A no-op if it does not run."""
        if self._process is not None:
            self._process.terminate(self.stop_seconds)

    def kill(self) -> None:
        """End it by SIGKILL, as a crash would; blocks until it is gone and its port is free."""
        if self._process is not None:
            self._process.kill()

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay open and get no answer."""
        self._running().signal_group(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self._running().signal_group(signal.SIGCONT)

    def log_text(self) -> str:
        """Return all that it printed, over all of its starts."""
        return self.log_file.read_text(encoding="utf-8", errors="replace") if self.log_file.exists() else ""

    def _running(self) -> GuardedProcess:
        if self._process is None or not self._process.is_running:
            raise DevstackError(f"{self.name} does not run")
        return self._process

    def __enter__(self) -> Self:
        self.start()
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(self.stop)
            self.wait_ready()
            on_failure.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
