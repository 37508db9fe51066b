"""What the ring of the cluster shares: an API server alone for who needs no pods."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hitcounter_cluster.api_server import ApiServer


@pytest.fixture(scope="session")
def api_server() -> Iterator[ApiServer]:
    """A Kubernetes API server with nothing behind it: no nodes, and nothing of ours."""
    with tempfile.TemporaryDirectory(prefix="hitcounter-") as folder, ApiServer(Path(folder)) as server:
        yield server
