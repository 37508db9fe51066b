"""How the operator asks the API server: with what stands on disk now, and an Event that repeats another raises it."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hitcounter_operator import cluster as cluster_module
from hitcounter_operator.cluster import Cluster, ClusterUnavailable
from kubernetes.aio.client import Configuration


class ApiServer:
    """Answers what it is told to, and remembers what it was asked."""

    def __init__(self) -> None:
        self.token = "old"
        self.answers: dict[str, int] = {}
        """The status of the answers to a method."""
        self.found: dict[str, Any] = {"items": []}
        self.asked: list[tuple[str, str, Any]] = []

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else None
        self.asked.append((request.method, request.path.rpartition("/")[2], body))
        if request.headers["Authorization"] != f"Bearer {self.token}":
            return web.json_response({"message": "Unauthorized"}, status=401)
        status = self.answers.get(request.method, 200)
        return web.json_response({"message": "no"} if status >= 400 else self.found, status=status)

    @property
    def methods(self) -> list[str]:
        return [method for method, _, _ in self.asked]


class Disk:
    """What the kubelet wrote: the token that the operator reads."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.token = "old"
        self.reads = 0
        self.error: Exception | None = None

    async def load(self, configuration: Configuration) -> None:
        self.reads += 1
        if self.error is not None:
            raise self.error
        configuration.host = self.url
        configuration.api_key["BearerToken"] = f"Bearer {self.token}"


@pytest.fixture
def api_server() -> ApiServer:
    return ApiServer()


@pytest.fixture
async def disk(api_server: ApiServer) -> AsyncIterator[Disk]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", api_server.answer)
    async with TestServer(app) as server:
        yield Disk(str(server.make_url("")).rstrip("/"))


@pytest.fixture
async def cluster(disk: Disk) -> AsyncIterator[Cluster]:
    async with contextlib.aclosing(Cluster("shop", disk.load)) as cluster:
        yield cluster


async def test_token_that_was_exchanged_is_read_anew_within_the_call(
    cluster: Cluster, disk: Disk, api_server: ApiServer
) -> None:
    await cluster.list_scalers("indexer")
    disk.token = api_server.token = "new"
    assert await cluster.list_scalers("indexer") == []
    assert (disk.reads, len(api_server.asked)) == (2, 3)


async def test_token_that_is_refused_is_tried_twice_and_no_more(
    cluster: Cluster, disk: Disk, api_server: ApiServer
) -> None:
    api_server.token = "another"
    with pytest.raises(ClusterUnavailable, match="401") as caught:
        await cluster.list_scalers("indexer")
    assert caught.value.status == 401
    assert (disk.reads, len(api_server.asked)) == (2, 2)


async def test_token_and_authority_are_read_again_after_a_minute(
    cluster: Cluster, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("hitcounter_operator.cluster.time.monotonic", lambda: now)
    for _ in range(3):
        await cluster.list_scalers("indexer")
    assert disk.reads == 1
    now += 60.0
    await cluster.list_scalers("indexer")
    assert disk.reads == 2


@pytest.mark.parametrize("error", [FileNotFoundError("token"), ssl.SSLError("half an authority"), ValueError("empty")])
async def test_what_cannot_be_read_for_a_moment_is_used_as_it_was(
    cluster: Cluster, disk: Disk, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(cluster_module, "_ACCESS_SECONDS", 0.0)
    await cluster.list_scalers("indexer")
    disk.error = error
    assert await cluster.list_scalers("indexer") == []


async def test_what_can_never_be_read_is_an_error_of_kubernetes(disk: Disk) -> None:
    disk.error = FileNotFoundError("token")
    async with contextlib.aclosing(Cluster("shop", disk.load)) as cluster:
        with pytest.raises(ClusterUnavailable, match="cannot read the credentials for Kubernetes"):
            await cluster.list_scalers("indexer")


@pytest.mark.parametrize("found", [{"items": [{"spec": {"maxReplicas": "many"}}]}, "Bad Gateway"])
async def test_answer_that_cannot_be_read_is_an_error_of_kubernetes(
    cluster: Cluster, api_server: ApiServer, found: Any
) -> None:
    api_server.found = found
    with pytest.raises(ClusterUnavailable, match="cannot be read"):
        await cluster.list_scalers("indexer")


EVENT: dict[str, Any] = {
    "metadata": {"name": "count.1"},
    "count": 1,
    "message": "x",
    "lastTimestamp": "now",
    "reason": "y",
}


async def test_event_that_repeats_another_raises_its_count(cluster: Cluster, api_server: ApiServer) -> None:
    await cluster.post_event(EVENT)
    await cluster.post_event({**EVENT, "count": 2})
    assert api_server.asked[0][:2] == ("POST", "events")
    assert api_server.asked[1] == ("PATCH", "count.1", {"count": 2, "message": "x", "lastTimestamp": "now"})


@pytest.mark.parametrize("status", [403, 404])
async def test_event_that_is_gone_or_may_not_be_raised_is_posted(
    cluster: Cluster, api_server: ApiServer, status: int
) -> None:
    api_server.answers["PATCH"] = status
    await cluster.post_event({**EVENT, "count": 7})
    assert api_server.methods == ["PATCH", "POST"]
    assert api_server.asked[1][2]["count"] == 7


@pytest.mark.parametrize(("method", "build"), [("PATCH", lambda: {**EVENT, "count": 2}), ("POST", lambda: EVENT)])
async def test_event_that_cannot_be_posted_now_is_an_error(
    cluster: Cluster, api_server: ApiServer, method: str, build: Callable[[], dict[str, Any]]
) -> None:
    api_server.answers[method] = 500
    with pytest.raises(ClusterUnavailable, match="500"):
        await cluster.post_event(build())
