"""What the chart's users in Redis may not do, on every supported line; what they may is tried by every other level."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import cast

import pytest
from hitcounter.settings import RedisSettings
from hitcounter.stream import HitStream, open_stream
from hitcounter_devstack import RedisServer
from hitcounter_devstack.redis_users import PASSWORD
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from tests.integration.stores.conftest import Producer, append

_Items = list[tuple[bytes, dict[bytes, bytes]]]

KEYS = ["{name}:hits", "{name}:ledger", "{name}:dead", "{name}:as-of", "{name}:as-of-lease", "{name}:producer:00"]


@pytest.fixture
async def api(redis: RedisServer) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis.url, username="api", password=PASSWORD, protocol=2) as client:
        yield client


@pytest.fixture
async def stream_of_the_api(redis_settings: RedisSettings) -> AsyncIterator[HitStream]:
    user = {"username": "api", "password": SecretStr(PASSWORD)}
    async with open_stream(redis_settings.model_copy(update=user)) as stream:
        yield stream


@pytest.mark.parametrize("command", ["DEL", "UNLINK", "SET", "RENAME", "XTRIM", "XDEL", "XSETID", "XGROUP"])
async def test_api_can_neither_replace_nor_delete_nor_empty_the_stream(
    stream_of_the_api: HitStream, api: Redis, raw: Redis, producer: Producer, command: str
) -> None:
    await append(stream_of_the_api, producer.batch())
    key = stream_of_the_api.keys.stream
    (entry_id,) = [found[0] for found in cast("_Items", await raw.xrange(key))]
    tried = {
        "DEL": f"DEL {key}",
        "UNLINK": f"UNLINK {key}",
        "SET": f"SET {key} gone",
        "RENAME": f"RENAME {key} {key}2",
        "XTRIM": f"XTRIM {key} MAXLEN 0",
        "XDEL": f"XDEL {key} {entry_id.decode()}",
        "XSETID": f"XSETID {key} 99999999999999-0",
        "XGROUP": f"XGROUP DESTROY {key} indexers",
    }[command]
    with pytest.raises(NoPermissionError):
        await api.execute_command(*tried.split())  # type: ignore[no-untyped-call]
    assert await raw.xlen(key) == 1


@pytest.mark.parametrize("key", KEYS)
async def test_api_can_set_no_key_but_its_producers(api: Redis, raw: Redis, name: str, key: str) -> None:
    key = key.replace("name", name)
    if ":producer:" in key:
        await api.set(key, 1, px=1000)
        return
    with pytest.raises(NoPermissionError):
        await api.set(key, "gone")
    assert not await raw.exists(key)


@pytest.mark.parametrize("key", ["hits", "{other", "session:1"])
async def test_api_reaches_no_key_of_others(api: Redis, key: str) -> None:
    for command in (["GET", key], ["XLEN", key], ["HMGET", key, "accepted"]):
        with pytest.raises(NoPermissionError):
            await api.execute_command(*command)  # type: ignore[no-untyped-call]
