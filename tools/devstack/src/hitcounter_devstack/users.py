"""The account that a server runs as: Elasticsearch refuses to run as root, so root uses an unprivileged account."""

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

from hitcounter_devstack.errors import MissingPartError


@dataclass(frozen=True)
class User:
    """An account by its numbers."""

    uid: int
    gid: int
    name: str


def unprivileged_user() -> User | None:
    """Return the account that root's servers run as, or None when we are not root and simply stay who we are."""
    if os.geteuid() != 0:
        return None
    try:
        account = pwd.getpwnam("nobody")
    except KeyError:
        raise MissingPartError(
            "There is no user `nobody` to run Elasticsearch as", "run this as a normal user"
        ) from None
    return User(account.pw_uid, account.pw_gid, account.pw_name)


def can_enter(user: User | None, folder: Path) -> bool:
    """Say whether the user can reach this existing folder through all of its parents."""
    return _succeeds(user, 'cd "$0"', folder)


def can_execute(user: User | None, program: Path) -> bool:
    """Say whether the user can reach this program and may execute it."""
    return _succeeds(user, 'test -x "$0"', program)


def _succeeds(user: User | None, condition: str, path: Path) -> bool:
    # Asking a shell that runs as that user is right for owners, groups and access lists alike.
    answer = subprocess.run(
        ["/bin/sh", "-c", condition, str(path)],
        cwd="/",
        stderr=subprocess.DEVNULL,
        check=False,
        user=None if user is None else user.uid,
        group=None if user is None else user.gid,
        extra_groups=None if user is None else [],
    )
    return answer.returncode == 0


def give_to(user: User | None, folder: Path) -> None:
    """Make the user the owner of the folder and all that is in it; nothing to do when we stay who we are."""
    if user is None:
        return
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, user.uid, user.gid, follow_symlinks=False)
