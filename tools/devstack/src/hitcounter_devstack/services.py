"""One of our commands as a process: `hitcounter-api`, `hitcounter-indexer`, or a replacement for them."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from hitcounter_devstack.environment import inherited_environment
from hitcounter_devstack.part import Part
from hitcounter_devstack.ports import http_json, http_status
from hitcounter_devstack.processes import GuardedProcess, LineHandler


class Service(Part):
    """A service started from a command line.

    Args:
        command: program and arguments (see `command_path`).
        log_file: its output is appended here.
        ready_url: answers 200 when the service is ready.
        name: what people call it; the program's name when None.
        environment: added to ours.
        folder: its working directory; ours when None.
        on_line: also called with each line of its output, on a thread of its own.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log_file: Path,
        ready_url: str,
        name: str | None = None,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        on_line: LineHandler | None = None,
    ) -> None:
        super().__init__()
        self.command = [str(part) for part in command]
        self.name = Path(self.command[0]).name if name is None else name
        self.ready_url = ready_url
        self.environment = {**inherited_environment(), **(environment or {})}
        self._log_file = log_file
        self._folder = folder
        self._on_line = on_line

    @property
    def log_file(self) -> Path:
        """Everything it printed, over all of its starts."""
        return self._log_file

    def is_ready(self) -> bool:
        """Say whether it calls itself ready now; another process that answers there does not count."""
        return http_status(self.ready_url) == 200 and http_json(self.ready_url).get("pid") in (None, self.pid)

    def _launch(self) -> GuardedProcess:
        return GuardedProcess(
            self.command,
            log_file=self.log_file,
            environment=self.environment,
            folder=self._folder,
            on_line=self._on_line,
        )


def command_path(name: str) -> Path:
    """Return one of our commands: they are installed beside the Python that runs us."""
    return Path(sys.executable).parent / name
