"""Who decides on the number of indexers, or what they look at, is away: the number holds, and every hit counts."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import pytest
from hitcounter_cluster.addons import install as install_addon
from hitcounter_cluster.node import Node

from tests.chart.cases import merge
from tests.cluster.conftest import Install
from tests.cluster.installation import INDEXERS, RELEASE, SMALL, Installation
from tests.cluster.load import steady_load
from tests.cluster.spike import Watch
from tests.cluster.test_spike import MODES, QUIET, SLOW, SPIKE

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]

LONGEST_SECONDS = 600.0
BLIND_SECONDS = 75.0
"""Of quiet, of which the fifth part would do to go down."""
AWAY: Mapping[str, tuple[str, str]] = {
    "Prometheus": ("monitoring", "deployment/prometheus"),
    "KEDA": ("keda", "deployment/keda-operator"),
    "KEDA's metrics API": ("keda", "deployment/keda-metrics-apiserver"),
}


@pytest.fixture(scope="module")
def by_keda(node: Node, install: Install) -> Iterator[Installation]:
    """An installation that KEDA scales; whatever became of the add-ons is mended afterwards."""
    addons, values = MODES["keda"]
    installation = install("blind-keda", addons=addons)
    installation.apply(SMALL, values=merge(SLOW, values))
    yield installation
    for addon in addons:
        install_addon(node, addon)


@pytest.mark.parametrize("who", AWAY)
def test_indexers_stay_while_keda_cannot_see_and_go_when_it_can(by_keda: Installation, who: str) -> None:
    assert_holds(by_keda, *AWAY[who])


def test_indexers_stay_while_the_operator_is_away_and_go_when_it_is_back(install: Install) -> None:
    _, values = MODES["operator"]
    installation = install("blind-operator")
    installation.apply(SMALL, values=merge(SLOW, values))
    assert_holds(installation, installation.namespace, f"deployment/{RELEASE}-hitcounter-operator")


def assert_holds(installation: Installation, namespace: str, deployment: str) -> None:
    """A spike brings indexers; without the deployment none goes though all is quiet; with it again, they go."""
    kubectl = installation.node.kubectl
    with steady_load(installation, SPIKE, LONGEST_SECONDS) as spike, Watch(installation, spike, INDEXERS) as watch:
        watch.wait_until(lambda look: look.wanted == look.ready > 1, timeout_seconds=120)
        kubectl("-n", namespace, "scale", deployment, "--replicas=0")
        kubectl("-n", namespace, "rollout", "status", deployment, "--timeout=60s")
        spike.stop()
    with steady_load(installation, QUIET, LONGEST_SECONDS) as calm, Watch(installation, calm, INDEXERS) as watch:
        time.sleep(BLIND_SECONDS)
        assert {look.wanted for look in watch.looks} == {watch.looks[0].wanted}
        assert watch.looks[0].wanted > 1
        kubectl("-n", namespace, "scale", deployment, "--replicas=1")
        watch.wait_until(lambda look: look.wanted == look.ready == 1, timeout_seconds=300)
        calm.stop()
        calm.assert_counted_exactly()
    spike.assert_counted_exactly()
