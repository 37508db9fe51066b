"""What the tests of the operator share: an API server that knows the kind, and an installation of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hitcounter_cluster.api_server import ApiServer
from hitcounter_devstack import ElasticsearchServer, RedisServer

from tests.cluster.operator.installation import ROOT, Installation
from tests.support.stack import Stack


@pytest.fixture(scope="session")
def api_server_with_kind(api_server: ApiServer) -> ApiServer:
    """The API server, with the definition that the chart brings."""
    api_server.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "charts/hitcounter/crds"))
    api_server.kubectl("wait", "--for=condition=Established", "crd/hitcounters.hitcounter.io", "--timeout=30s")
    return api_server


@pytest.fixture
def installation(
    api_server_with_kind: ApiServer,
    redis_server: RedisServer,
    elasticsearch_server: ElasticsearchServer,
    tmp_path: Path,
) -> Iterator[Installation]:
    """An installation with the operator's account, and nothing running yet."""
    with (
        Stack(redis_server.url, elasticsearch_server.url, tmp_path) as stack,
        Installation(api_server_with_kind, stack, tmp_path) as installation,
    ):
        yield installation
