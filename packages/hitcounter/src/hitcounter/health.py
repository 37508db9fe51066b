"""The management port: /livez, /readyz and /metrics, the same in every service.

/livez checks that the event loop runs and, if the service asks for it, that its work makes progress. It never calls
another server. /readyz checks that the service can do its job; until then it lists what the service waits for.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any

import orjson
import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from pydantic import Field

from hitcounter.errors import ConfigurationError
from hitcounter.settings import Host, Port, Section, variable_name

_Answer = tuple[int, str, bytes]
"""Status, content type and body."""
_Send = Callable[[dict[str, Any]], Awaitable[None]]


class ManagementSettings(Section):
    """The management port."""

    host: Host = Field(
        "127.0.0.1", description="Address to listen on. In a container use 0.0.0.0, or :: for IPv6 and IPv4."
    )
    port: Port = Field(description="Port of /livez, /readyz and /metrics.")


class Readiness:
    """What a service still waits for. Ready when nothing is left. Warnings do not affect readiness."""

    def __init__(self, *names: str) -> None:
        self._problems = dict.fromkeys(names, "not reached yet")
        self._warnings: dict[str, str] = {}

    @property
    def problems(self) -> dict[str, str]:
        """What is waited for, by name, and why."""
        return dict(self._problems)

    @property
    def is_ready(self) -> bool:
        """True when nothing is waited for."""
        return not self._problems

    def set_problem(self, name: str, reason: str) -> bool:
        """Record that something is missing. Return True if the reason is new."""
        is_news = self._problems.get(name) != reason
        self._problems[name] = reason
        return is_news

    @property
    def warnings(self) -> dict[str, str]:
        """What an operator should change although the service does its job, by name."""
        return dict(self._warnings)

    def warn(self, name: str, reasons: Sequence[str]) -> bool:
        """Replace the reasons of a warning; an empty list removes it. Return True if there are new reasons."""
        warning = "; ".join(reasons)
        is_news = bool(warning) and self._warnings.get(name) != warning
        if warning:
            self._warnings[name] = warning
        else:
            self._warnings.pop(name, None)
        return is_news

    def clear(self, name: str) -> bool:
        """Record that something is no longer missing. Return True if it was missing before."""
        return self._problems.pop(name, None) is not None


class EmbeddedServer(uvicorn.Server):
    """A uvicorn server in a process that handles signals itself, so that it can exit with status 0 on SIGTERM."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the process."""
        yield


def open_socket(host: str, port: int, section: str, *, reuse_port: bool = False) -> socket.socket:
    """Return a socket that listens there.

    Args:
        host: an address or a name; IPv6 where it contains a colon, in brackets or not. `::` listens on IPv4 as well.
        port: the port.
        section: the section of the settings with both.
        reuse_port: share it with other processes that share it, too.

    Raises:
        ConfigurationError: the port is taken, or the address is not of this machine.
    """
    address = host.removeprefix("[").removesuffix("]")
    is_ipv6 = ":" in address
    family = socket.AF_INET6 if is_ipv6 else socket.AF_INET
    # Independent of net.ipv6.bindv6only: a pod in a dual-stack cluster gets requests of both families (RFC 3493, 5.3).
    is_dual = is_ipv6 and socket.has_dualstack_ipv6()
    try:
        return socket.create_server(
            (address, port), family=family, backlog=2048, reuse_port=reuse_port, dualstack_ipv6=is_dual
        )
    except OSError as error:
        where = format_address(host, port)
        # A name that does not resolve (getaddrinfo's numbers are negative), or an address of another machine.
        is_host_wrong = error.errno == errno.EADDRNOTAVAIL or (error.errno is not None and error.errno < 0)
        variable = variable_name(section, "host" if is_host_wrong else "port")
        raise ConfigurationError(f"cannot listen on {where}: {error.strerror}; see {variable}") from error


def format_address(host: str, port: int) -> str:
    """Return host and port as a URL has them: an IPv6 address in brackets (RFC 3986, 3.2.2)."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


_ALLOW = (b"allow", b"GET, HEAD, OPTIONS")
"""A 405 must have it (RFC 9110, 15.5.6)."""


def build_management_app(
    registry: CollectorRegistry,
    readiness: Readiness,
    is_alive: Callable[[], bool] = lambda: True,
) -> Callable[[dict[str, Any], object, _Send], Awaitable[None]]:
    """Return the ASGI application of the management port."""

    def answer(path: str) -> _Answer:
        if path == "/livez":
            return (200, "text/plain", b"alive\n") if is_alive() else (503, "text/plain", b"stuck\n")
        if path == "/readyz":
            state = {"ready": readiness.is_ready, "waiting_for": readiness.problems, "warnings": readiness.warnings}
            body = orjson.dumps({**state, "pid": os.getpid()})
            return (200 if readiness.is_ready else 503), "application/json", body
        if path == "/metrics":
            return 200, CONTENT_TYPE_LATEST, generate_latest(registry)
        return 404, "text/plain", b"there are /livez, /readyz and /metrics\n"

    async def app(scope: dict[str, Any], _receive: object, send: _Send) -> None:
        if scope["method"] == "OPTIONS":
            await send({"type": "http.response.start", "status": 204, "headers": [_ALLOW]})
            await send({"type": "http.response.body", "body": b""})
            return
        extra = []
        if scope["method"] in ("GET", "HEAD"):
            status, content_type, body = answer(scope["path"])
        else:
            status, content_type, body = 405, "text/plain", b"only GET and HEAD are answered here\n"
            extra.append(_ALLOW)
        length = str(len(body)).encode()
        headers = [(b"content-type", content_type.encode()), (b"content-length", length), *extra]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


@contextlib.asynccontextmanager
async def serve_management(
    settings: ManagementSettings,
    registry: CollectorRegistry,
    readiness: Readiness,
    is_alive: Callable[[], bool] = lambda: True,
) -> AsyncIterator[None]:
    """Serve the management port while the block runs.

    Raises:
        ConfigurationError: the port cannot be opened.
    """
    app = build_management_app(registry, readiness, is_alive)
    config = uvicorn.Config(app, lifespan="off", access_log=False, log_config=None, timeout_graceful_shutdown=1)
    server = EmbeddedServer(config)
    with open_socket(settings.host, settings.port, "management") as listener:
        task = asyncio.create_task(server.serve(sockets=[listener]), name="management port")
        try:
            yield
        finally:
            server.should_exit = True
            await task
