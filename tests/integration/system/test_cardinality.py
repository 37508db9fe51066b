"""How many series there are does not depend on what is counted: Prometheus must bear any traffic."""

from __future__ import annotations

import contextlib
import json
import urllib.error
import urllib.request

import pytest
from hitcounter_devstack import ElasticsearchServer, RedisServer
from hitcounter_devstack.services import Service

from tests.support.stack import Api, Stack

IDS = 1_000_000
BATCH_HITS = 10_000

pytestmark = pytest.mark.timeout(300)


def series_of(service: Service) -> set[str]:
    """Return name and labels of every series that a process shows."""
    url = service.ready_url.replace("/readyz", "/metrics")
    with urllib.request.urlopen(url, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    series = {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}
    return series - {"hitcounter_indexers_wanted"}  # absent while the number is unknown


def post(api: Api, path: str, body: object) -> None:
    """Send JSON, whatever is answered."""
    with (
        contextlib.suppress(urllib.error.HTTPError),
        urllib.request.urlopen(f"{api.url}{path}", json.dumps(body).encode(), timeout=30),
    ):
        pass


def use_everything(api: Api, id_: str) -> None:
    """Ask everything of the API that has to do with an id, mistakes included."""
    post(api, "/analytics", {"id": id_})
    post(api, "/analytics", {"id": id_, "weight": 0})
    post(api, "/analytics", {"id": id_, id_: "an unknown field"})
    post(api, f"/{id_}", {})
    api.counts(id_)


def test_a_million_distinct_ids_add_not_one_series(
    redis_server: RedisServer, elasticsearch_server: ElasticsearchServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with Stack(redis_server.url, elasticsearch_server.url, tmp_path_factory.mktemp("cardinality")) as stack:
        indexer, api = stack.indexer(), stack.api()
        use_everything(api, "first")
        api.wait_drained()
        before = series_of(api.service), series_of(indexer)
        for start in range(0, IDS, BATCH_HITS):
            post(api, "/analytics/batch", [{"id": f"id-{number}"} for number in range(start, start + BATCH_HITS)])
            use_everything(api, f"seen-{start}")
        assert api.wait_drained(200.0)["indexed"] == 1 + IDS + IDS // BATCH_HITS
        assert series_of(api.service) ^ before[0] == set()
        assert series_of(indexer) ^ before[1] == set()
        assert len(before[0]) < 300
