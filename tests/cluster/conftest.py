"""What the level of the cluster shares: a real node, installations on it, and an API server alone."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from hitcounter_cluster.__main__ import up
from hitcounter_cluster.addons import install as install_addon
from hitcounter_cluster.api_server import ApiServer
from hitcounter_cluster.node import Node
from hitcounter_cluster.storage import provide_volumes

from tests.cluster.installation import Installation
from tests.cluster.machine import traces

Install = Callable[..., Installation]
"""Makes an installation in a new namespace of the given name."""


@pytest.fixture(scope="session")
def api_server() -> Iterator[ApiServer]:
    """A Kubernetes API server alone: without nodes, and without hitcounter."""
    with tempfile.TemporaryDirectory(prefix="hitcounter-") as folder, ApiServer(Path(folder)) as server:
        yield server


@pytest.fixture(scope="session")
def node() -> Iterator[Node]:
    """A node with our images, which leaves the machine as it was; one that was up before stays up."""
    if Node().pid is not None:
        yield up([])
        return
    before = traces()
    try:
        yield up([])
    finally:
        Node().down()
        assert traces() == before


@pytest.fixture(scope="module")
def install(node: Node) -> Iterator[Install]:
    """A maker of installations, which go with the module; the add-ons that they need stay."""
    made: list[Installation] = []

    def make(namespace: str, *, helm: str = "helm-4", addons: Iterable[str] = ()) -> Installation:
        for addon in addons:
            install_addon(node, addon)
        provide_volumes(node)
        made.append(Installation(node, namespace, helm=helm))
        return made[-1]

    yield make
    for installation in made:
        installation.remove()
