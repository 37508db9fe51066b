"""Finds free ports and the process on a port, and waits until a port accepts connections."""

import collections
import fcntl
import itertools
import json
import os
import random
import socket
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any

from hitcounter_devstack.environment import cache_folder

LOCALHOST = "127.0.0.1"

# Below the ranges from which Linux (32768 and up) and macOS (49152 and up) take the near end of outgoing
# connections. Otherwise a client that keeps reconnecting to a stopped server could be given the server's own port,
# and be connected to itself.
FALLBACK_PORTS = range(20_000, 30_000)


_held: dict[int, int] = {}
"""The ports that this process holds, and the descriptor of the lock of each."""
_chosen: collections.deque[int] = collections.deque()
"""Those of free_port, the oldest first. A server binds its port some time after it was chosen."""
_CHOSEN_MAX = 100


def free_port() -> int:
    """Return a random free port that no outgoing connection will take, nor soon another process that asks for one."""
    port = next(port for port in iter(_random_port, None) if _hold(port))
    _chosen.append(port)
    if len(_chosen) > _CHOSEN_MAX:
        os.close(_held.pop(_chosen.popleft()))
    return port


def hold_port(preferred: int) -> int:
    """Return `preferred` if it is free, else a free port; no other stack is given it until this process ends.

    A server binds its port long after it was chosen (Elasticsearch 20 s later), and binds it again after a restart.
    """
    return next(port for port in itertools.chain([preferred], iter(_random_port, None)) if _hold(port))


def _hold(port: int) -> bool:
    if port in _held:
        return False
    folder = cache_folder() / "ports"
    folder.mkdir(exist_ok=True)
    descriptor = os.open(folder / f"{port}.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        # The kernel frees it when we end, however we end; children do not inherit it (PEP 446).
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    if not is_free(port):
        os.close(descriptor)
        return False
    _held[port] = descriptor
    return True


def _random_port() -> int:
    return random.choice(FALLBACK_PORTS)  # noqa: S311 - not a secret


def is_free(port: int) -> bool:
    """Say whether a server could listen on this port of the local machine now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: old connections do not count
        try:
            probe.bind((LOCALHOST, port))
            probe.listen()
        except OSError:
            return False
    return True


def http_json(url: str, timeout_seconds: float = 1.0) -> dict[str, Any]:
    """Return the JSON object that a GET answers with 200; an empty one if it answers anything else, or nothing."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_seconds) as answer:
            found = json.load(answer) if answer.status == 200 else {}
    except (OSError, HTTPException, ValueError):  # an HTTPError is an OSError
        return {}
    return found if isinstance(found, dict) else {}


def http_status(url: str, timeout_seconds: float = 1.0) -> int | None:
    """Return the status of a GET, or None while nothing answers at all."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_seconds) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except (OSError, HTTPException):
        return None
