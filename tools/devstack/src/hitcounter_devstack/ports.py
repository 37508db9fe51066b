"""Free ports, and waiting until something answers on one."""

import random
import socket
import urllib.error
import urllib.request
from http.client import HTTPException

LOCALHOST = "127.0.0.1"

# Below the ranges from which Linux (32768 and up) and macOS (49152 and up) take the near end of outgoing
# connections. Otherwise a client that keeps reconnecting to a stopped server could be given the server's own port,
# and be connected to itself.
FALLBACK_PORTS = range(20_000, 30_000)


def free_port(preferred: int | None = None) -> int:
    """Return `preferred` if nothing listens there, else a random free port that no outgoing connection will take."""
    if preferred is not None and is_free(preferred):
        return preferred
    return next(port for port in iter(_random_port, None) if is_free(port))


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
