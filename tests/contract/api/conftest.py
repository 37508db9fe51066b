from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.api.server import Server
from tests.unit.api.fakes import FakeReader, FakeStream


@pytest.fixture(scope="session")
def running_server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def server(running_server: Server) -> Server:
    """The API, with a stream and a reader that have seen nothing yet."""
    running_server.stream.__dict__.update(FakeStream().__dict__)
    running_server.reader.__dict__.update(FakeReader().__dict__)
    return running_server
