"""A real Redis: append-only file synced every second, no eviction, reachable only from this machine.

`redis_binaries.py` finds its programs.
"""

import functools
import re
import socket
from collections.abc import Mapping
from pathlib import Path

from hitcounter_devstack.ports import LOCALHOST
from hitcounter_devstack.processes import LineHandler
from hitcounter_devstack.redis_binaries import find_redis, redis_version
from hitcounter_devstack.redis_users import build_access_list
from hitcounter_devstack.server import Command, Server

DEFAULT_PORT = 6379

# What hitcounter asks of its Redis: acknowledged hits are in a file, and a full memory refuses writes instead of
# dropping keys.
DEFAULT_OPTIONS: Mapping[str, str] = {
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",
    "maxmemory-policy": "noeviction",
    "bind": LOCALHOST,
    "daemonize": "no",
}


class RedisServer(Server):
    """A Redis server.

    Args:
        data_dir: holds its append-only file.
        port: the port to listen on; None takes a free one, once.
        binary: the redis-server to run; None takes the newest that is known here.
        options: settings of redis.conf, by name, over the defaults (`{"maxmemory": "64mb"}`).
        on_line: called with each line of its log.
    """

    name = "redis"
    stop_seconds = 10.0

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int | None = None,
        binary: Path | None = None,
        options: Mapping[str, str] | None = None,
        on_line: LineHandler | None = None,
    ) -> None:
        super().__init__(data_dir, port=port, on_line=on_line)
        self.binary = find_redis() if binary is None else binary
        self.options = {**DEFAULT_OPTIONS, **(options or {})}

    @property
    def url(self) -> str:
        """The URL of its database 0."""
        return f"redis://{LOCALHOST}:{self.port}/0"

    @functools.cached_property
    def version(self) -> str:
        """The version that the program tells, such as `8.2.3`."""
        return redis_version(self.binary)

    def _prepare(self) -> Command:
        users = self.data_dir / "services.acl"
        users.write_text(build_access_list(self.version))
        options = {"port": str(self.port), "dir": str(self.data_dir), "aclfile": str(users), **self.options}
        return Command([str(self.binary), *build_arguments(options)])

    def is_ready(self) -> bool:
        """Say whether it answers PING now, and is no other server on this port."""
        return redis_answers(self.port) and redis_process(self.port) in (None, self.pid)


def build_arguments(options: Mapping[str, str]) -> list[str]:
    """Return settings of redis.conf as arguments of redis-server."""
    return [argument for name, value in options.items() for argument in (f"--{name}", value)]


def redis_answers(port: int) -> bool:
    """Say whether a Redis serves on this local port; one that still loads its file answers -LOADING."""
    try:
        with socket.create_connection((LOCALHOST, port), timeout=1.0) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


def redis_process(port: int) -> int | None:
    """Return the process id of the Redis on this local port; None if it does not tell."""
    try:
        with (
            socket.create_connection((LOCALHOST, port), timeout=1.0) as connection,
            connection.makefile("rb") as answer,
        ):
            connection.sendall(b"INFO server\r\nQUIT\r\n")
            found = re.search(rb"process_id:(\d+)", answer.read())
    except OSError:
        return None
    return int(found[1]) if found else None
