"""What can go wrong with the local stack, in words that tell the reader what to do next.

DevstackError               anything below; the command prints it as one sentence and exits with 1
├── MissingPartError        something has to be installed first; `fix` is the command that does it
├── DataInUseError          another stack already works on these files
└── StartError              a part died, or was not ready in time; holds its last log lines
"""


class DevstackError(Exception):
    """The root of this package's errors."""


class MissingPartError(DevstackError):
    """A program that the stack needs is not on this machine and cannot be fetched as things are.

    Args:
        what: the missing part, in words.
        fix: what to install or run, as a command where there is one.
    """

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(f"{what}. To fix it: {fix}")
        self.what = what
        self.fix = fix


class DataInUseError(DevstackError):
    """The data folder is held by a server that still runs."""


class StartError(DevstackError):
    """A part ended, or did not become ready within its time."""
