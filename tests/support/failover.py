"""A failover that demotes a Redis in place: the address moves to its replica, the connections stay where they were.

This is what a managed Redis with one "primary endpoint" does, or a DNS name that moves: nobody is cut off, and who
keeps the connection keeps a replica that refuses to write (READONLY). Only new connections reach the new primary. Here
both servers swap their ports, so that no proxy has to carry every command. No hit is lost by it: `FAILOVER` waits until
the replica has everything.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from hitcounter_devstack import RedisServer, free_port
from hitcounter_devstack.ports import LOCALHOST
from redis import Redis
from redis.exceptions import RedisError

from tests.support.stack import wait_until

Connect = Callable[[int], Redis]
"""Opens a connection to a port, as a user who may do everything."""


def connect_as_default(port: int) -> Redis:
    """Connect to a server without users."""
    return Redis(host=LOCALHOST, port=port, socket_timeout=5.0)


@contextlib.contextmanager
def demoted_in_place(
    server: RedisServer, replica: RedisServer, connect: Connect = connect_as_default
) -> Iterator[None]:
    """Make the replica primary under the server's address inside the block, and the server again afterwards.

    Args:
        server: the primary; nothing else may happen to it meanwhile.
        replica: another server, not started, with no data; it is gone afterwards.
        connect: opens connections to both.

    Raises:
        TimeoutError: they did not swap in time.
    """
    replica.start().wait_ready()
    try:
        _swap_after_sync(server.port, replica.port, connect)
        try:
            yield
        finally:
            _swap_after_sync(server.port, replica.port, connect)
    finally:
        replica.kill()


def _swap_after_sync(endpoint: int, other: int, connect: Connect) -> None:
    """Let the server behind the other port take over role and port of the one behind the endpoint."""
    aside = free_port()
    with connect(endpoint) as old, connect(other) as new:
        if _role(new) != "slave":
            new.config_set("repl-diskless-sync-delay", 0)
            old.config_set("repl-diskless-sync-delay", 0)
            new.execute_command("REPLICAOF", LOCALHOST, endpoint)
        wait_until(lambda: _ask(new), lambda seen: seen.get("master_link_status") == "up")
        old.execute_command("FAILOVER", "TO", LOCALHOST, other)
        wait_until(lambda: (_role(old), _role(new)), lambda roles: roles == ("slave", "master"))
        old.config_set("port", aside)
        new.config_set("port", endpoint)
        old.config_set("port", other)
        old.execute_command("REPLICAOF", LOCALHOST, endpoint)


def _role(connection: Redis) -> str:
    return str(_ask(connection)["role"])


def _ask(connection: Redis) -> dict[str, Any]:
    try:
        return dict(connection.info("replication"))
    except RedisError as error:
        raise OSError(str(error)) from error
