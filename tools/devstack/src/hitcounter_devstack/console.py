"""The common log of `hitcounter-devstack run`: the lines of all parts, each with the name of its part."""

import contextlib
import re
import sys
import threading
from collections.abc import Callable, Mapping
from typing import TextIO

from hitcounter_devstack.environment import inherited_environment
from hitcounter_devstack.processes import LineHandler

NAME_WIDTH = 13
RESET = "\033[0m"
BOLD = "\033[1m"
COLOURS: Mapping[str, str] = {
    "devstack": "\033[36m",
    "api": "\033[32m",
    "indexer": "\033[35m",
    "redis": "\033[33m",
    "elasticsearch": "\033[34m",
}

REDIS_WARNING = re.compile(r"^\d+:\w .* # ")
ELASTICSEARCH_WARNING = re.compile(r"\[(WARN |ERROR|FATAL)\]")
# Of no concern to a stack on one machine: memory overcommit, file limits, ciphers that a newer Java dropped.
EXPECTED_WARNING = re.compile(r"overcommit|BootstrapChecks|SSLService|ready to exit")


class Console:
    """Writes lines from several threads, whole and in turn; in colour on a terminal unless NO_COLOR is set."""

    def __init__(self, stream: TextIO = sys.stdout) -> None:
        self._stream = stream
        self._in_colour = stream.isatty() and not inherited_environment().get("NO_COLOR")
        self._lock = threading.Lock()

    def say(self, sentence: str, part: str = "devstack") -> None:
        """Write one line of a part, by default of the stack itself."""
        name = f"{part:<{NAME_WIDTH}}"
        if self._in_colour:
            name = f"{COLOURS.get(part, '')}{name}{RESET}"
        # Whoever reads us may have gone (`make run | head`): the parts must not stall on that.
        with self._lock, contextlib.suppress(OSError, ValueError):
            print(f"{name} {sentence}", file=self._stream, flush=True)

    def add(self, text: str) -> None:
        """Write one more line of what was said, without a name: fit to be copied and pasted."""
        self.say(text, part="")

    def strong(self, text: str) -> str:
        """Return the text so that it stands out, where that is possible."""
        return f"{BOLD}{text}{RESET}" if self._in_colour else text

    def lines_of(self, part: str, is_shown: Callable[[str], bool] = bool) -> LineHandler:
        """Return a handler that writes those lines of a part that should be shown; by default all but empty ones."""

        def on_line(line: str) -> None:
            if is_shown(line):
                self.say(line, part)

        return on_line


def is_redis_warning(line: str) -> bool:
    """Say whether a developer should see this line of Redis's log."""
    return REDIS_WARNING.search(line) is not None and EXPECTED_WARNING.search(line) is None


def is_elasticsearch_warning(line: str) -> bool:
    """Say whether a developer should see this line of Elasticsearch's log."""
    return ELASTICSEARCH_WARNING.search(line) is not None and EXPECTED_WARNING.search(line) is None
