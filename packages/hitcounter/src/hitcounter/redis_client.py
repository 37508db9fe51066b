"""Connections to Redis, and the translation of its errors.

AcceptConnection is the connection of the hot path. It runs one accept script at a time and avoids the overhead of the
pool and client of redis-py. It is opened at first use and closed after any failure, so that a late response is never
taken for the response to the next batch (decision 6). A batch that reaches Redis late finds a higher sequence there and
is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

from redis.asyncio import Connection, ConnectionPool
from redis.asyncio.connection import SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    MasterDownError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from hitcounter.entries import Durability
from hitcounter.errors import ConfigurationError, DurabilityUnavailable, HitcounterError, Outcome, StreamUnavailable
from hitcounter.logs import get_logger
from hitcounter.settings import RedisSettings, variable_name

_Command = str | int | bytes

_DEMOTED: Final = (MasterDownError, ReadOnlyError)
"""The errors of a Redis that is no longer the primary."""
_REFUSED_UP_FRONT: Final = (AuthenticationError, BusyLoadingError, NoScriptError, *_DEMOTED)
"""Errors that Redis returns before a script has changed anything; redis-py has classes for these …"""
_REFUSED_UP_FRONT_CODES: Final = ("MISCONF", "NOREPLICAS", "STALESEQUENCE", "WRONGTYPE")
"""… and for these only the code at the beginning of the text."""
_INSIDE_A_SCRIPT: Final = "in script"
"""Part of the error when the user may not call a command inside a script: the script may have changed something."""
_CANNOT_SYNC: Final = ("unknown command", "appendonly is disabled")
"""The errors of a Redis without WAITAOF or without an append-only file."""
_FAILURES: Final = (RedisError, OSError, TimeoutError, RuntimeError)
"""What redis-py raises when a call fails. RuntimeError comes from uvloop, for a connection that was reset before the
first command was written: redis-py handles only what asyncio's own loop raises, and lets it through."""
_FULL_RETRY_SECONDS: Final = 5.0

log = get_logger()


def build_pool(settings: RedisSettings, timeout_seconds: float | None) -> ConnectionPool:
    """Return a connection pool that never retries a command: the caller decides what may be repeated.

    Raises:
        ConfigurationError: redis-py cannot create a connection with these settings.
    """
    try:
        pool = _build_pool(settings, timeout_seconds)
        connection = pool.make_connection()  # type: ignore[no-untyped-call]  # redis-py
        if isinstance(connection, SSLConnection):
            connection.ssl_context.get()
    except (RedisError, TypeError, ValueError, OSError) as error:
        # Its text may contain a password.
        name = type(error).__name__
        raise ConfigurationError(
            f"{variable_name('redis', 'url')}: cannot be used with these settings ({name})"
        ) from error
    return pool


def _build_pool(settings: RedisSettings, timeout_seconds: float | None) -> ConnectionPool:
    options = _build_options(settings)
    options |= {"socket_timeout": timeout_seconds, "socket_keepalive": True}
    if settings.sentinels is None:
        return ConnectionPool(**options)
    sentinel = _build_sentinel(settings, options)
    return _MasterPool(settings.sentinel_master, sentinel, **_for_any_server(options))  # type: ignore[no-untyped-call]


class _MasterPool(SentinelConnectionPool):
    """Connects to the server that the Sentinels report as the primary."""

    async def aclose(self) -> None:
        """Close all connections, including those to the Sentinels."""
        await super().aclose()
        await self.sentinel_manager.aclose()


def _build_options(settings: RedisSettings) -> dict[str, Any]:
    options: dict[str, Any] = {**parse_url(settings.url.get_secret_value())}
    options |= {
        "protocol": 2,
        "socket_connect_timeout": settings.connect_timeout_seconds,
        "retry": Retry(NoBackoff(), 0),
        # This closes the connection and does not retry. The next connection reaches the new primary, even behind a
        # plain address (issue 14).
        "retry_on_error": list(_DEMOTED),
    }
    if settings.username is not None:
        options["username"] = settings.username
    if settings.password is not None:
        options["password"] = settings.password.get_secret_value()
    files = {"ssl_ca_certs": settings.ca_file, "ssl_certfile": settings.cert_file, "ssl_keyfile": settings.key_file}
    return options | {name: path for name, path in files.items() if path is not None}


def _build_sentinel(settings: RedisSettings, options: Mapping[str, Any]) -> Sentinel:
    password = settings.sentinel_password
    sentinel_options = _for_any_server(options) | {
        "db": 0,
        "username": settings.sentinel_username,
        "password": password.get_secret_value() if password else None,
        "socket_timeout": settings.connect_timeout_seconds,
    }
    return Sentinel(settings.sentinel_addresses, sentinel_kwargs=sentinel_options)  # type: ignore[no-untyped-call]  # redis-py


def _for_any_server(options: Mapping[str, Any]) -> dict[str, Any]:
    """Remove the address from the options, and set TLS by the option that needs no address."""
    remaining = {name: value for name, value in options.items() if name not in ("host", "port", "connection_class")}
    return remaining | {"ssl": options.get("connection_class") is SSLConnection}


class AcceptConnection:
    """The connection for accepts of one durability. One call at a time; whoever created it closes it."""

    def __init__(
        self, pool: ConnectionPool, script: str, durability: Durability, *, trusts_hidden_policy: bool = False
    ) -> None:
        self._pool = pool
        self._script = script
        self._durability = durability
        self._trusts_hidden_policy = trusts_hidden_policy
        self._connection: Connection | None = None
        self._sha = ""

    async def accept(self, keys: Sequence[str], arguments: Sequence[_Command], *, timeout_seconds: float) -> None:
        """Run the accept script once; with durability disk, wait until Redis has synced.

        Raises:
            StreamUnavailable: its outcome is what is known.
            DurabilityUnavailable: this Redis does not support the durability; nothing was sent.
        """
        outcome: Outcome | None = Outcome.REFUSED
        try:
            async with asyncio.timeout(timeout_seconds):
                if self._connection is not None and _is_closed(self._connection):
                    await self._drop()  # Redis has closed it, so nothing written to it would arrive
                connection = self._connection or await self._open()
                outcome = None  # from here the error decides
                await _call(connection, "EVALSHA", self._sha, len(keys), *keys, *arguments)
                if self._durability is Durability.DISK:
                    outcome = Outcome.UNKNOWN
                    await _wait_for_disk(connection, timeout_seconds)
        except BaseException as error:
            await self._drop()
            if isinstance(error, _FAILURES):
                raise build_stream_unavailable(error, "accept a batch", outcome) from error
            if isinstance(error, HitcounterError) or not isinstance(error, Exception) or outcome is not Outcome.REFUSED:
                raise
            # A bug or a wrong setting, before anything was sent: the outcome is certain.
            log.exception("the connection for hits could not be opened")
            raise StreamUnavailable(
                "cannot connect to Redis", cause=f"{type(error).__name__}: {error}", outcome=Outcome.REFUSED
            ) from error

    async def aclose(self) -> None:
        """Close the connection."""
        await self._drop()
        await self._pool.aclose()

    async def _open(self) -> Connection:
        connection = cast("Connection", await self._pool.get_connection())  # type: ignore[no-untyped-call]  # redis-py
        self._connection = connection
        policy = await _read_memory_policy(connection)
        check_memory_policy(policy, trusts_hidden=self._trusts_hidden_policy)
        if self._durability is Durability.DISK:
            await _check_disk(connection)
        self._sha = (await _call(connection, "SCRIPT", "LOAD", self._script)).decode()
        return connection

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)
            await self._pool.release(connection)


async def _call(connection: Connection, *command: _Command) -> bytes:
    await connection.send_command(*command)
    return cast("bytes", await connection.read_response())


def _is_closed(connection: Connection) -> bool:
    """Return whether the server has closed the connection, as far as this side knows."""
    reader = connection._reader
    return reader is not None and (reader.at_eof() or reader.exception() is not None)


async def _read_memory_policy(connection: Connection) -> str:
    """Return the maxmemory-policy of Redis; empty if Redis hides it or this user may not read it."""
    try:
        memory = (await _call(connection, "INFO", "memory")).decode()
    except ResponseError as error:
        if not is_forbidden(error):
            raise
        return ""
    return dict(line.split(":", 1) for line in memory.splitlines() if ":" in line).get("maxmemory_policy", "")


def is_forbidden(error: Exception) -> bool:
    """Return whether this user may not run the command, or Redis does not have it."""
    return isinstance(error, NoPermissionError) or str(error).startswith("unknown command")


async def _wait_for_disk(connection: Connection, timeout_seconds: float) -> None:
    """Wait until everything that this connection wrote is synced to disk.

    Raises:
        StreamUnavailable: it took too long. The outcome is unknown, because the sync may still happen.
    """
    await connection.send_command("WAITAOF", 1, 0, int(timeout_seconds * 1000))
    synced, _ = await connection.read_response()
    if synced < 1:
        raise StreamUnavailable("Redis took the batch but did not sync it in time", outcome=Outcome.UNKNOWN)


async def _check_disk(connection: Connection) -> None:
    """Ask for a sync before anything is written, so that a Redis without support fails before a hit depends on it."""
    try:
        await connection.send_command("WAITAOF", 1, 0, 1)
        await connection.read_response()
    except ResponseError as error:
        if not any(words in str(error) for words in _CANNOT_SYNC):
            raise
        raise DurabilityUnavailable(
            "this Redis does not support durability disk: it needs version 7.2 or newer with appendonly yes"
        ) from error


def check_memory_policy(policy: str, *, trusts_hidden: bool) -> None:
    """Check that Redis does not evict hits.

    Args:
        policy: its maxmemory-policy; empty if it does not show one.
        trusts_hidden: assume noeviction if Redis does not show its policy.

    Raises:
        StreamUnavailable: it may evict hits, or does not show whether it does. The message names the setting.
    """
    if policy == "noeviction" or (not policy and trusts_hidden):
        return
    raise StreamUnavailable(
        f"Redis has maxmemory-policy {policy} and may evict hits; set it to noeviction"
        if policy
        else "Redis does not show its maxmemory-policy (INFO memory), so it may evict hits; make sure that it is "
        f"noeviction, then set {variable_name('redis', 'trust_memory_policy')}=true",
        outcome=Outcome.REFUSED,
        is_worth_retrying=False,
        retry_after_seconds=_FULL_RETRY_SECONDS,
    )


@contextlib.contextmanager
def translate_redis_errors(doing: str) -> Iterator[None]:
    """Convert errors of redis-py inside the block to StreamUnavailable."""
    try:
        yield
    except _FAILURES as error:
        raise build_stream_unavailable(error, doing) from error


def build_stream_unavailable(error: Exception, doing: str, outcome: Outcome | None = None) -> StreamUnavailable:
    """Convert an error of redis-py to StreamUnavailable, with the outcome of the command.

    Args:
        error: the error.
        doing: what was attempted, for the message.
        outcome: the outcome, if it is known; None derives it from the error.
    """
    text = str(error) or type(error).__name__
    if isinstance(error, OutOfMemoryError):
        return StreamUnavailable(
            f"cannot {doing}: Redis is full",
            cause=text,
            outcome=Outcome.REFUSED,
            is_worth_retrying=False,
            retry_after_seconds=_FULL_RETRY_SECONDS,
        )
    is_away = isinstance(error, RedisConnectionError | RedisTimeoutError | OSError | TimeoutError | RuntimeError)
    return StreamUnavailable(
        f"cannot {doing}: {'Redis does not answer' if is_away else 'Redis refused'}",
        cause=text,
        outcome=outcome or (Outcome.REFUSED if _is_refused_up_front(error, text) else Outcome.UNKNOWN),
    )


def is_demoted(error: BaseException | None) -> bool:
    """Return whether the error comes from a Redis that is no longer the primary.

    With Sentinel, redis-py converts it to its own ConnectionError.
    """
    return isinstance(error, _DEMOTED) or (error is not None and isinstance(error.__context__, _DEMOTED))


def _is_refused_up_front(error: Exception, text: str) -> bool:
    """Return whether Redis returned the error before a script changed anything."""
    if isinstance(error, NoPermissionError):
        return _INSIDE_A_SCRIPT not in text
    return is_demoted(error) or isinstance(error, _REFUSED_UP_FRONT) or text.startswith(_REFUSED_UP_FRONT_CODES)
