"""The only module of the tools that reads its environment variables and the host that it runs on."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path


def inherited_environment() -> dict[str, str]:
    """Return a copy of our environment, for children and for the few variables that name other people's programs."""
    return dict(os.environ)  # noqa: TID251 - settings of the services are theirs; these are the shell's


def checkout() -> Path:
    """Return the checkout whose .venv we run from, or the current folder outside of one."""
    checkout = Path(sys.prefix).parent
    return checkout if (checkout / "pyproject.toml").exists() else Path.cwd()


def cache_folder(environment: Mapping[str, str] | None = None) -> Path:
    """Return (and make) the folder of what was downloaded once for all checkouts of this user.

    Root's is under /var/cache, since the account that Elasticsearch then runs as cannot look into root's home.
    """
    environment = inherited_environment() if environment is None else environment
    if os.geteuid() == 0:
        folder = Path("/var/cache/hitcounter")
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)  # whatever root's umask is
    elif environment.get("XDG_CACHE_HOME"):
        folder = Path(environment["XDG_CACHE_HOME"]) / "hitcounter"
    else:
        folder = Path.home() / ".cache" / "hitcounter"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
