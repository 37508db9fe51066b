"""Data folders in the cache, for checkouts that the account of Elasticsearch cannot read (such as in root's home).

The file `origin` in each one names the folder that it replaces. If that folder is deleted, as `make clean` does, the
substitute is deleted when the next server starts.
"""

import os
import shutil
from pathlib import Path

from hitcounter_devstack.environment import cache_folder
from hitcounter_devstack.errors import DataInUseError
from hitcounter_devstack.locks import lock_data
from hitcounter_devstack.users import User, can_enter


def reachable_folder(folder: Path, user: User | None) -> Path:
    """Return the folder itself if the user can get there, else its substitute."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    if user is None or can_enter(user, folder.parent):
        return folder
    return _substitutes() / str(folder).strip("/").replace("/", "-")


def claim_substitute(substitute: Path, folder: Path) -> None:
    """Let the substitute, whose lock we hold, stand for the folder; it starts anew if the folder was deleted."""
    if not folder.exists():
        shutil.rmtree(substitute / "data", ignore_errors=True)
        folder.mkdir()
    (substitute / "origin").write_text(str(folder))


def drop_abandoned() -> None:
    """Remove the substitutes whose folders are gone, unless a server still runs on one."""
    for origin in list(_substitutes().glob("*/origin")):
        if not Path(origin.read_text()).exists():
            try:
                lock = lock_data(origin.parent, timeout_seconds=0)
            except DataInUseError:
                continue
            shutil.rmtree(origin.parent, ignore_errors=True)
            os.close(lock)


def _substitutes() -> Path:
    return cache_folder() / "data"
