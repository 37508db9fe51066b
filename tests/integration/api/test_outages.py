"""Redis that cannot be trusted or has no room, Elasticsearch that hangs: what clients are told, and that it heals."""

from __future__ import annotations

import concurrent.futures
import statistics
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hitcounter_devstack import ElasticsearchServer, RedisServer, find_redis
from redis import Redis

from tests.integration.api.asking import ask, manage, track
from tests.support.proxy import FaultyWire
from tests.support.stack import Stack, wait_until

NOWHERE = "http://127.0.0.1:1"


@pytest.fixture(params=["8.2", "7.0"])
def own_redis(request: pytest.FixtureRequest, folder: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own, which may spoil it."""
    with RedisServer(folder / "redis", binary=find_redis(request.param)) as server:
        yield server


@pytest.fixture
def admin(own_redis: RedisServer) -> Iterator[Redis]:
    with Redis.from_url(own_redis.url) as client:
        yield client


def test_a_redis_that_may_evict_gets_no_hits_and_the_answer_says_why(
    own_redis: RedisServer, admin: Redis, folder: Path
) -> None:
    admin.config_set("maxmemory-policy", "allkeys-lru")
    with Stack(own_redis.url, NOWHERE, folder) as stack:
        api = stack.api(is_awaited=False)
        wait_until(api.service.log_text, lambda text: "waiting for Redis" in text)
        reply = track(api)
        assert (reply.status, reply.json["outcome"]) == (503, "refused")
        assert "maxmemory-policy allkeys-lru" in reply.json["detail"]
        assert "noeviction" in reply.json["detail"]
        assert int(reply.headers["retry-after"]) >= 1
        assert admin.exists(f"{{{stack.name}}}:hits") == 0
        admin.config_set("maxmemory-policy", "noeviction")
        api.service.wait_ready()
        assert track(api).status == 204


def test_a_full_redis_gives_503_and_room_gives_204_again(own_redis: RedisServer, admin: Redis, folder: Path) -> None:
    with Stack(own_redis.url, NOWHERE, folder) as stack:
        api = stack.api()
        assert track(api).status == 204
        admin.config_set("maxmemory", "1mb")
        reply = track(api)
        assert (reply.status, reply.json["outcome"]) == (503, "refused")
        assert "full" in reply.json["detail"]
        assert int(reply.headers["retry-after"]) >= 1
        assert api.status()["accepted"] == 1
        admin.config_set("maxmemory", "0")
        assert track(api).status == 204
        assert api.status()["accepted"] == 2


def test_a_frozen_redis_gives_503_within_a_second_and_heals(own_redis: RedisServer, folder: Path) -> None:
    with Stack(own_redis.url, NOWHERE, folder) as stack:
        api = stack.api()
        assert track(api).status == 204
        own_redis.pause()
        try:
            tracks = [track(api) for _ in range(5)]
            assert {reply.status for reply in tracks} == {503}
            assert tracks[0].json["outcome"] == "unknown"
            looks = [ask(api, "/status") for _ in range(5)]
            assert {(reply.status, reply.headers["retry-after"]) for reply in looks} == {(503, "1")}
            # A busy machine may delay any of them, and a Redis that is waited for too long delays them all.
            assert min(reply.seconds for reply in tracks) < 1
            assert min(reply.seconds for reply in looks) < 1
        finally:
            own_redis.resume()
        wait_until(lambda: track(api).status, lambda status: status == 204)


def test_last_known_counts_are_answered_while_elasticsearch_is_away(
    redis_server: RedisServer, elasticsearch_server: ElasticsearchServer, folder: Path
) -> None:
    with FaultyWire(elasticsearch_server.url) as wire, Stack(redis_server.url, wire.url, folder) as stack:
        api = stack.api()
        stack.indexer()
        assert track(api, "known").status == 204
        api.wait_drained()
        fresh = ask(api, "/analytics/known")
        assert [window["count"] for window in fresh.json["counts"]] == [1] * 5
        assert "hitcounter-stale" not in fresh.headers
        wire.refuse()
        stale = ask(api, "/analytics/known")
        assert (stale.status, stale.body, stale.headers["hitcounter-stale"]) == (200, fresh.body, "true")
        assert stale.headers["hitcounter-as-of"] == fresh.headers["hitcounter-as-of"]
        unknown = ask(api, "/analytics/unknown")
        assert (unknown.status, unknown.json["type"]) == (503, "urn:hitcounter:problem:index-unavailable")
        wire.heal()
        wait_until(lambda: ask(api, "/analytics/known").headers, lambda headers: "hitcounter-stale" not in headers)


def test_an_elasticsearch_that_hangs_starves_neither_track_nor_further_reads(
    redis_server: RedisServer, elasticsearch_server: ElasticsearchServer, folder: Path
) -> None:
    with FaultyWire(elasticsearch_server.url) as wire, Stack(redis_server.url, wire.url, folder) as stack:
        api = stack.api(HITCOUNTER_READS__MAX_CONCURRENT="4", HITCOUNTER_READS__TIMEOUT_SECONDS="5")
        wire.blackhole()
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            reads = [pool.submit(ask, api, f"/analytics/{number}") for number in range(12)]
            tracks = [track(api) for _ in range(20)]
            replies = [read.result() for read in reads]
        assert {reply.status for reply in tracks} == {204}
        assert statistics.median(reply.seconds for reply in tracks) < 1
        assert {reply.status for reply in replies} == {503}
        assert sum(reply.json["type"].endswith("reads-full") for reply in replies) == 8


def test_a_hundred_reads_of_a_slow_elasticsearch_are_all_answered_and_none_is_stale(
    redis_server: RedisServer, elasticsearch_server: ElasticsearchServer, folder: Path
) -> None:
    with FaultyWire(elasticsearch_server.url) as wire, Stack(redis_server.url, wire.url, folder) as stack:
        api = stack.api()
        assert ask(api, "/analytics/warm").status == 200
        wire.delay(0.1)  # each way
        with concurrent.futures.ThreadPoolExecutor(100) as pool:
            replies = list(pool.map(lambda number: ask(api, f"/analytics/{number}"), range(100)))
        assert [reply.body for reply in replies if reply.status != 200] == []
        assert not [reply for reply in replies if "hitcounter-stale" in reply.headers]


def test_five_hundred_reads_and_looks_at_once_neither_fail_nor_fill_the_pool(
    own_redis: RedisServer, admin: Redis, elasticsearch_server: ElasticsearchServer, folder: Path
) -> None:
    with Stack(own_redis.url, elasticsearch_server.url, folder) as stack:
        api = stack.api()
        with concurrent.futures.ThreadPoolExecutor(500) as pool:
            asked = ["/status", "/analytics/popular"] * 250
            replies = list(pool.map(lambda path: ask(api, path), asked))
        assert [reply.body for reply in replies if reply.status != 200] == []
        reads = [reply for path, reply in zip(asked, replies, strict=True) if path != "/status"]
        assert all("hitcounter-backlog" in reply.headers for reply in reads)
        assert len(admin.client_list()) < 10


@pytest.mark.parametrize("url", ["redis://127.0.0.77:1/0", "redis://{address}/0"], ids=["away", "refuses us"])
def test_no_answer_tells_where_the_stores_are_or_who_we_are_there(
    redis_server: RedisServer, folder: Path, url: str
) -> None:
    address = urlsplit(redis_server.url).netloc.rpartition("@")[2]
    with Stack(url.format(address=address), "http://127.0.0.78:1", folder) as stack:
        us = {"HITCOUNTER_REDIS__USERNAME": "hits-writer", "HITCOUNTER_REDIS__PASSWORD": "hits-password"}
        api = stack.api(us, is_awaited=False)
        wait_until(api.service.log_text, lambda text: "waiting for Redis" in text)
        for reply in (track(api), *(ask(api, path) for path in ("/status", "/analytics/a", "/history/a"))):
            assert reply.status == 503
            for secret in ("127.0.0", "hits-writer", "hits-password", address.partition(":")[2]):
                assert secret not in reply.body.decode(), reply.body
        assert "hits-password" not in api.service.log_text()
        assert ("127.0.0.77" if "77" in url else "invalid username-password pair") in api.service.log_text()


def test_a_policy_that_changes_at_run_time_soon_refuses_every_hit(
    own_redis: RedisServer, admin: Redis, folder: Path
) -> None:
    with Stack(own_redis.url, NOWHERE, folder) as stack:
        api = stack.api()
        assert track(api).status == 204
        admin.config_set("maxmemory-policy", "allkeys-lru")
        reply = wait_until(lambda: track(api), lambda reply: reply.status == 503)
        assert reply.json["outcome"] == "refused"
        assert "maxmemory-policy allkeys-lru" in reply.json["detail"]
        accepted = api.status()["accepted"]
        assert {track(api).status for _ in range(50)} == {503}
        assert api.status()["accepted"] == accepted
        assert "allkeys-lru" in manage(api, "/readyz").json["warnings"]["redis"]
        assert "hitcounter_redis_may_evict 1.0" in manage(api, "/metrics").body.decode()
        admin.config_set("maxmemory-policy", "noeviction")
        wait_until(lambda: track(api).status, lambda status: status == 204)
        assert manage(api, "/readyz").json["warnings"] == {}
