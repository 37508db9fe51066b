"""The common part of Redis and Elasticsearch: a port and a data folder that outlast a stop or a kill.

It knows neither store: the subclasses define the command and when it is ready.
"""

import abc
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hitcounter_devstack.environment import inherited_environment
from hitcounter_devstack.locks import lock_data
from hitcounter_devstack.part import Part
from hitcounter_devstack.ports import free_port
from hitcounter_devstack.processes import GuardedProcess, LineHandler
from hitcounter_devstack.users import User


@dataclass(frozen=True)
class Command:
    """How to start a server.

    Attributes:
        arguments: the program and its arguments.
        environment: added to ours.
        user: the account to run as; None stays who we are.
    """

    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    user: User | None = None


class Server(Part):
    """One real server on this machine.

    It keeps its port and its data from one `start` to the next, so a test may kill it and bring it back where
    clients look for it.

    Args:
        data_dir: where its files live; made when absent, never deleted.
        port: the port to listen on; None takes a free one, once.
        on_line: called with each line of its log, which also goes to `log_file`.
    """

    def __init__(self, data_dir: Path, *, port: int | None = None, on_line: LineHandler | None = None) -> None:
        super().__init__()
        self.data_dir = data_dir.absolute()
        self.port = free_port() if port is None else port
        self._on_line = on_line

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

    @property
    def log_file(self) -> Path:
        """Everything the server printed, over all of its starts."""
        return self.data_dir / "server.log"

    def _launch(self) -> GuardedProcess:
        lock = lock_data(self.data_dir)
        try:
            command = self._prepare()
            return GuardedProcess(
                command.arguments,
                log_file=self.log_file,
                environment={**inherited_environment(), **command.environment},
                folder=self.data_dir,
                user=command.user,
                on_line=self._on_line,
                held_lock=lock,
            )
        finally:
            os.close(lock)  # the guard has its copy, for as long as the server lives
