"""What a newcomer does first: count a hit, read it back."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from hitcounter_devstack import ElasticsearchServer, RedisServer

from tests.support.stack import Api, Stack, wait_until

_WINDOWS = ["3 days ago", "2 days ago", "1 day ago", "1 hour ago", "5 minutes ago"]


@pytest.fixture(scope="module")
def api(
    redis_server: RedisServer, elasticsearch_server: ElasticsearchServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Api]:
    folder: Path = tmp_path_factory.mktemp("first-hit")
    with Stack(redis_server.url, elasticsearch_server.url, folder) as stack:
        stack.indexer()
        yield stack.api()


@pytest.mark.parametrize(
    "id_",
    ["1", "/blog/2026/11/23?page=2", "a b\tc", "🙂/é/%2F", "batch", "a/..", "\x00", "x" * 512, "🙂" * 128],
    ids=["digit", "slashes", "spaces", "emoji", "batch", "dots", "nul", "512-ascii-bytes", "512-bytes-of-emoji"],
)
def test_a_hit_shows_in_all_five_windows(api: Api, id_: str) -> None:
    """How soon is the benchmark's to say: it publishes the freshness at full load."""
    assert _track(api, id_) == 204
    expected = {"id": id_, "counts": [{"reference": window, "count": 1} for window in _WINDOWS]}
    wait_until(lambda: _read(api, id_), lambda counts: counts == expected)


def test_an_unknown_id_answers_zeros(api: Api) -> None:
    assert _read(api, "never hit") == {
        "id": "never hit",
        "counts": [{"reference": window, "count": 0} for window in _WINDOWS],
    }


def test_an_id_of_513_bytes_gets_422_that_says_so(api: Api) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        _track(api, "x" * 513)
    problem = json.load(caught.value)
    assert caught.value.code == 422
    assert problem["field"] == "id"
    assert problem["limit"] == 512
    assert "512 bytes" in problem["detail"]


def _track(api: Api, id_: str) -> int:
    body = json.dumps({"id": id_}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{api.url}/analytics", data=body), timeout=30) as answer:
        assert answer.read() == b""
        return int(answer.status)


def _read(api: Api, id_: str) -> dict[str, object]:
    with urllib.request.urlopen(f"{api.url}/analytics/{urllib.parse.quote(id_, safe='')}", timeout=30) as answer:
        return dict(json.load(answer))
