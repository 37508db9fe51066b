"""Locks between processes: for a shared download, and for the data of a running server."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hitcounter_devstack.environment import cache_folder
from hitcounter_devstack.errors import DataInUseError
from hitcounter_devstack.progress import ticking

RELEASE_SECONDS = 5.0


@contextmanager
def exclusive(what: str) -> Iterator[None]:
    """Hold the lock of something in the cache while the block runs. If another process has it, print that and wait.

    The kernel releases it if this process dies.
    """
    with (cache_folder() / f"{what}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with ticking(f"waiting for another process that fetches {what}"):
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def lock_data(data_dir: Path, timeout_seconds: float = RELEASE_SECONDS) -> int:
    """Take the lock of a data folder and return its descriptor, which frees it when its last copy is closed.

    Waits a moment: a guard whose parent was just killed needs some milliseconds to end its server.

    Raises:
        DataInUseError: a running server has the folder.
    """
    descriptor = os.open(data_dir / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise DataInUseError(f"{data_dir} is in use: another stack runs on this data. Stop it first.") from None
            time.sleep(0.1)
        else:
            return descriptor
