"""A Redis whose disk can be full at will, without mounting anything: by the limit on the size of its files (Linux)."""

from __future__ import annotations

import contextlib
import resource
import shlex
from collections.abc import Iterator
from pathlib import Path

from hitcounter_devstack import RedisServer, find_redis
from redis import Redis
from redis.exceptions import RedisError

from tests.support.stack import wait_until

_LEFT_BYTES = 4096


def build_redis(folder: Path) -> Path:
    """Make a redis-server that hears of a file grown too large by an error, as of a full disk, and by no deadly signal.

    Pass it to RedisServer as its binary.
    """
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "redis-server"
    script.write_text(f"#!/bin/sh\ntrap '' XFSZ\nexec {shlex.quote(str(find_redis()))} \"$@\"\n")
    script.chmod(0o755)
    return script


@contextlib.contextmanager
def full_disk(server: RedisServer) -> Iterator[None]:
    """Let the file that Redis writes to grow no further inside the block, and do afterwards what an operator has to.

    It goes on by `everysec` meanwhile: with `always` it would end itself at once, and there would be nothing to see.

    Raises:
        TimeoutError: Redis did not recover.
    """
    with Redis.from_url(server.url, socket_timeout=5.0) as redis:
        policy = redis.config_get("appendfsync")["appendfsync"]
        redis.config_set("appendfsync", "everysec")
        written = max(server.data_dir.rglob("*.incr.aof"), key=_age_of)
        limits = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (written.stat().st_size + _LEFT_BYTES, limits[1]))
        try:
            yield
        finally:
            resource.prlimit(server.pid, resource.RLIMIT_FSIZE, limits)
            _wait_for(redis, aof_last_write_status="ok")
            # Redis (7.0 to 8.2 at least) may have left a hole in the file, by which it could not be loaded again: it
            # undoes a write that was cut short, but goes on behind it. What is in memory is whole.
            redis.bgrewriteaof()
            _wait_for(redis, aof_rewrite_in_progress=0, aof_rewrite_scheduled=0, aof_last_bgrewrite_status="ok")
            redis.config_set("appendfsync", policy)


def _age_of(file: Path) -> int:
    """Return the number in a name such as appendonly.aof.12.incr.aof."""
    return int(file.name.split(".")[-3])


def _wait_for(redis: Redis, **wanted: object) -> None:
    def look() -> dict[str, object]:
        try:
            return dict(redis.info("persistence"))
        except RedisError as error:
            raise OSError(str(error)) from error

    wait_until(look, lambda seen: wanted.items() <= seen.items())
