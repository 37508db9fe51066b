"""What an acknowledged hit survives: a kill of Redis and a power cut where disk was asked for, or Redis always syncs.

SIGKILL alone proves nothing about power cuts: the kernel has taken the writes and keeps them. So Redis runs on a disk
that forgets what was not synced. Nor does a kill on a fast disk prove much: while a sync is under way, Redis holds back
its writes for up to two seconds and answers all the same. So the disk may be slow (tests/support/forgetful_disk.c).
"""

from __future__ import annotations

import itertools
import json
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from hitcounter_devstack import RedisServer, find_redis
from redis import Redis

from tests.support.forgetful_disk import ForgetfulRedis, SlowRedis
from tests.support.stack import Api, Stack

_NOBODY_LISTENS = "http://127.0.0.1:1"


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="hitcounter-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def redis(folder: Path) -> Iterator[RedisServer]:
    # It syncs only when asked: what is kept was asked for.
    with ForgetfulRedis(folder / "redis", options={"appendfsync": "everysec"}) as server:
        yield server


def test_hits_acknowledged_as_on_disk_survive_a_power_cut(redis: RedisServer, folder: Path) -> None:
    with Stack(redis.url, _NOBODY_LISTENS, folder) as stack:
        api = stack.api()
        for _ in range(3):
            assert track(api, "disk") == 204
        restart_after_kill(redis, api)
        assert api.status()["accepted"] == 3
        assert api.status()["backlog"] == 3


def test_hits_acknowledged_as_in_memory_may_be_lost_by_a_power_cut_and_the_ledger_with_them(
    redis: RedisServer, folder: Path
) -> None:
    with Stack(redis.url, _NOBODY_LISTENS, folder) as stack:
        api = stack.api()
        assert track(api, "disk") == 204  # so that there is something to come back to
        redis_command(redis, "CONFIG", "SET", "appendfsync", "no")
        for _ in range(3):
            assert track(api, "memory") == 204
        restart_after_kill(redis, api)
        status = api.status()
        assert status["accepted"] == 1, (
            "if this is 4, the forgetful disk forgets nothing, and the test above shows nothing"
        )
        assert status["accepted"] == status["backlog"], (
            "entry and booking are lost together, never one without the other"
        )


def test_hits_acknowledged_with_appendfsync_always_survive_a_power_cut(folder: Path) -> None:
    with (
        ForgetfulRedis(folder / "redis", options={"appendfsync": "always"}) as redis,
        Stack(redis.url, _NOBODY_LISTENS, folder) as stack,
    ):
        api = stack.api()
        acknowledged = track_for(1.0, api)
        restart_after_kill(redis, api)
        assert api.status()["accepted"] == acknowledged


def test_a_kill_during_a_slow_sync_may_lose_hits_acknowledged_as_in_memory_and_the_ledger_with_them(
    folder: Path,
) -> None:
    with (
        SlowRedis(folder / "redis", fsync_ms=1500, options={"appendfsync": "everysec"}) as redis,
        Stack(redis.url, _NOBODY_LISTENS, folder) as stack,
    ):
        api = stack.api()
        acknowledged = track_for(3.0, api)
        restart_after_kill(redis, api)
        status = api.status()
        assert 0 < status["accepted"] <= acknowledged
        assert status["accepted"] == status["backlog"] == status["entries"], "never one without the other"


def test_a_kill_during_a_slow_sync_loses_nothing_with_appendfsync_always(folder: Path) -> None:
    with (
        SlowRedis(folder / "redis", fsync_ms=100, options={"appendfsync": "always"}) as redis,
        Stack(redis.url, _NOBODY_LISTENS, folder) as stack,
    ):
        api = stack.api()
        acknowledged = track_for(2.0, api)
        restart_after_kill(redis, api)
        status = api.status()
        assert status["accepted"] == status["entries"] == acknowledged


def test_a_kill_during_a_slow_sync_loses_no_hit_acknowledged_as_on_disk(folder: Path) -> None:
    with (
        SlowRedis(folder / "redis", fsync_ms=700, options={"appendfsync": "everysec"}) as redis,
        Stack(redis.url, _NOBODY_LISTENS, folder) as stack,
    ):
        api = stack.api(HITCOUNTER_INTAKE__DISK_BUDGET_SECONDS="10")
        before = track_for(1.0, api)
        assert track(api, "disk") == 204
        after = track_for(0.5, api)  # the next sync is under way
        restart_after_kill(redis, api)
        assert before + 1 <= api.status()["accepted"] <= before + 1 + after


def test_the_default_may_be_disk(redis: RedisServer, folder: Path) -> None:
    with Stack(redis.url, _NOBODY_LISTENS, folder) as stack:
        api = stack.api(HITCOUNTER_INTAKE__DURABILITY="disk")
        assert track(api, None) == 204
        restart_after_kill(redis, api)
        assert api.status()["accepted"] == 1


def test_a_redis_without_waitaof_is_a_422_that_says_so_and_nothing_is_taken(folder: Path) -> None:
    with (
        RedisServer(folder / "redis", binary=find_redis("7.0")) as redis,
        Stack(redis.url, _NOBODY_LISTENS, folder) as stack,
    ):
        api = stack.api()
        problem = refused(api, "disk")
        assert problem["status"] == 422
        assert problem["field"] == "Hitcounter-Durability"
        assert "7.2" in str(problem["detail"])
        assert track(api, "memory") == 204
        assert api.status()["accepted"] == 1


def test_a_redis_without_a_file_is_a_422_that_says_so(folder: Path) -> None:
    with (
        RedisServer(folder / "redis", options={"appendonly": "no"}) as redis,
        Stack(redis.url, _NOBODY_LISTENS, folder) as stack,
    ):
        api = stack.api()
        problem = refused(api, "disk")
        assert problem["status"] == 422
        assert "appendonly" in str(problem["detail"])
        assert api.status()["accepted"] == 0


def test_a_sync_that_does_not_come_is_a_503_of_unknown_outcome_and_counts_once(
    redis: RedisServer, folder: Path
) -> None:
    with Stack(redis.url, _NOBODY_LISTENS, folder) as stack:
        api = stack.api(HITCOUNTER_INTAKE__DISK_BUDGET_SECONDS="0.5")
        redis_command(redis, "CONFIG", "SET", "appendfsync", "no")
        problem = refused(api, "disk")
        assert problem["status"] == 503
        assert problem["outcome"] == "unknown"
        assert api.status()["accepted"] == 1, "it was taken, and its retries took nothing more"


def track(api: Api, durability: str | None) -> int:
    headers = {} if durability is None else {"Hitcounter-Durability": durability}
    request = urllib.request.Request(f"{api.url}/analytics", data=b'{"id": "1"}', headers=headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return int(answer.status)


def track_for(seconds: float, api: Api) -> int:
    """Track one hit after the other, in memory, for so long; return how many were acknowledged: all."""
    deadline = time.monotonic() + seconds
    for number in itertools.count(1):
        assert track(api, "memory") == 204
        if time.monotonic() > deadline:
            return number
    raise AssertionError("count() has no end")


def refused(api: Api, durability: str) -> dict[str, object]:
    with pytest.raises(urllib.error.HTTPError) as caught:
        track(api, durability)
    return dict(json.load(caught.value))


def restart_after_kill(redis: RedisServer, api: Api) -> None:
    redis.kill()
    redis.start()
    redis.wait_ready()
    api.service.wait_ready()


def redis_command(redis: RedisServer, *words: str) -> None:
    with Redis.from_url(redis.url) as connection:
        connection.execute_command(*words)
