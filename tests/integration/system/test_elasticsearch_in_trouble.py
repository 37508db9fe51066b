"""An Elasticsearch whose disk is full, and one that comes back with nothing on it, while everything runs."""

from __future__ import annotations

import json
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from hitcounter_devstack import ElasticsearchServer, RedisServer
from hitcounter_devstack.services import Service

from tests.support.client import RecordingClient
from tests.support.stack import Api, Stack, own_elasticsearch, wait_until
from tests.support.verdict import LONGEST, assert_counted_exactly

_WATERMARK: Final = "cluster.routing.allocation.disk.watermark"
_FLOODED: Final = {
    "cluster.routing.allocation.disk.threshold_enabled": True,
    f"{_WATERMARK}.low": "3pb",
    f"{_WATERMARK}.high": "2pb",
    f"{_WATERMARK}.flood_stage": "1pb",
    "cluster.info.update.interval": "10s",
}
"""How much must be free on the disk: more than there is anywhere, so that Elasticsearch calls it full by itself."""


@pytest.fixture(scope="module")
def elasticsearch() -> Iterator[ElasticsearchServer]:
    with (
        tempfile.TemporaryDirectory(prefix="hitcounter-", ignore_cleanup_errors=True) as folder,
        own_elasticsearch(Path(folder)) as server,
    ):
        yield server.start().wait_ready()


@pytest.fixture
def stack(redis_server: RedisServer, elasticsearch: ElasticsearchServer, tmp_path: Path) -> Iterator[Stack]:
    with Stack(redis_server.url, elasticsearch.url, tmp_path) as stack:
        yield stack


def test_hits_wait_while_the_disk_of_elasticsearch_is_full_and_are_counted_once_when_there_is_room(
    stack: Stack, elasticsearch: ElasticsearchServer
) -> None:
    # Only a busy machine could make Redis slow: the budget is not what is tested.
    api, indexer = stack.api(HITCOUNTER_INTAKE__BUDGET_SECONDS="4"), stack.indexer()
    with RecordingClient([api.url]) as client:
        client.wait_for(200)
        put_cluster_settings(elasticsearch, _FLOODED)
        try:
            wait_until(lambda: readiness_of(indexer), lambda text: "flood-stage" in text, 60.0)
            client.wait_for(200)
            assert api.status()["backlog"] > 0
        finally:
            put_cluster_settings(elasticsearch, dict.fromkeys(_FLOODED))
        wait_until(lambda: readiness_of(indexer), lambda text: text == "", 60.0)
    assert set(client.answers) == {"204"}
    assert_counted_exactly(api, client)


def test_elasticsearch_replaced_by_an_empty_one_gets_our_mapping_and_counts_what_was_still_queued(
    stack: Stack, elasticsearch: ElasticsearchServer
) -> None:
    api = stack.api()
    stack.indexer()
    with RecordingClient([api.url]) as before:
        before.wait_for(200)
    api.wait_drained()
    elasticsearch.kill()
    shutil.rmtree(elasticsearch.data_dir / "data")
    with RecordingClient([api.url]) as client:
        client.wait_for(200)
        elasticsearch.start()
        elasticsearch.wait_ready()
        client.wait_for(200)
    assert api.wait_drained()["dead"] == 0
    # Some may be duplicates: Elasticsearch may write a bulk while it starts whose answer the indexer no longer awaits.
    assert_counted_alone(api, client)
    assert read_mapping(elasticsearch, stack)["dynamic"] == "strict"


def assert_counted_alone(api: Api, client: RecordingClient) -> None:
    """Every id: what this client was told is counted, and nothing from before."""
    for id_ in client.acknowledged | client.unknown:
        counted, acknowledged = api.counts(id_)[LONGEST], client.acknowledged[id_]
        assert acknowledged <= counted <= acknowledged + client.unknown[id_], id_


def readiness_of(service: Service) -> str:
    """Return what the service waits for, nothing if it is ready."""
    try:
        with urllib.request.urlopen(service.ready_url, timeout=5):
            return ""
    except urllib.error.HTTPError as error:
        return error.read().decode()


def put_cluster_settings(server: ElasticsearchServer, settings: Mapping[str, object]) -> None:
    request = urllib.request.Request(
        f"{server.url}/_cluster/settings",
        method="PUT",
        data=json.dumps({"persistent": settings}).encode(),
        headers={"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=30).close()


def read_mapping(server: ElasticsearchServer, stack: Stack) -> dict[str, Any]:
    with urllib.request.urlopen(f"{server.url}/{stack.name}-*/_mapping", timeout=10) as answer:
        mappings = json.load(answer)
    (mapping,) = {json.dumps(found["mappings"], sort_keys=True) for found in mappings.values()}
    return dict(json.loads(mapping))
