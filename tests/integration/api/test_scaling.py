"""The number of indexers wanted, as every API of an installation shows it."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

from hitcounter_devstack import RedisServer
from redis import Redis

from tests.integration.api.asking import ask, manage
from tests.support.stack import Api, Stack, wait_until

NOWHERE = "http://127.0.0.1:1"


def wanted(api: Api) -> tuple[int | None, int | None]:
    """Return what /status and /metrics show."""
    found = re.search(r"^hitcounter_indexers_wanted (\S+)$", manage(api, "/metrics").body.decode(), re.MULTILINE)
    return api.status()["indexers_wanted"], None if found is None else int(float(found[1]))


def wait_wanted(api: Api, indexers: int) -> None:
    wait_until(lambda: wanted(api), lambda shown: shown == (indexers, indexers))


def send(api: Api, hits: int) -> None:
    body = json.dumps([{"id": "a"} for _ in range(hits)]).encode()
    assert ask(api, "/analytics/batch", body).status == 204


def test_all_apis_want_the_same_without_any_indexer_and_after_a_restart_and_nothing_once_redis_is_emptied(
    redis_server: RedisServer, folder: Path
) -> None:
    """The backlog is 3,000 hits, and an indexer is expected to settle 10 a second in 30 seconds: ten are wanted."""
    with Stack(redis_server.url, NOWHERE, folder) as stack, Redis.from_url(redis_server.url) as raw:
        settings = {"HITCOUNTER_SCALING__HITS_PER_BUSY_SECOND": "10"}
        first, second = stack.api(settings), stack.api(settings)
        for api in (first, second):
            wait_wanted(api, 0)
        send(first, 1000)
        send(second, 2000)
        for api in (first, second):
            wait_wanted(api, 10)
        second.service.send_signal(signal.SIGKILL)
        second = stack.api(settings)
        wait_wanted(second, 10)
        assert wanted(first) == (10, 10)
        raw.delete(f"{{{stack.name}}}:ledger", f"{{{stack.name}}}:hits")
        for api in (first, second):
            wait_wanted(api, 0)
