"""Pods are deleted and evicted while hits arrive: nothing acknowledged is lost, nothing is counted twice."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable

import pytest
from hitcounter_cluster.network import NODE_NAME
from hitcounter_devstack.errors import DevstackError

from tests.cluster.conftest import Install
from tests.cluster.installation import COMPONENT, INDEXERS, RELEASE, SMALL, Installation
from tests.cluster.load import steady_load
from tests.support.stack import wait_until

RATE = 100.0
LONGEST_SECONDS = 900.0
HITS = 500
WORKLOADS = {
    "indexer": INDEXERS,
    "api": f"deployment/{RELEASE}-hitcounter-api",
    "redis": f"statefulset/{RELEASE}-redis",
    "elasticsearch": f"statefulset/{RELEASE}-elasticsearch",
}


@pytest.fixture(scope="module")
def installation(install: Install) -> Installation:
    """An installation with several replicas of each service, whose stores keep their data."""
    made = install("faults")
    made.apply(SMALL)
    return made


@pytest.mark.timeout(LONGEST_SECONDS)
@pytest.mark.parametrize("component", WORKLOADS)
def test_deleted_pods_lose_nothing_and_double_nothing(installation: Installation, component: str) -> None:
    def delete_all() -> None:
        for pod in installation.pods(component):
            installation.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false")

    assert_nothing_is_lost(installation, delete_all, WORKLOADS[component])


@pytest.mark.timeout(LONGEST_SECONDS)
@pytest.mark.parametrize("component", ["indexer", "redis"])
def test_killed_pods_lose_nothing_and_double_nothing(installation: Installation, component: str) -> None:
    def kill_all() -> None:
        for pod in installation.pods(component):
            installation.kubectl("delete", "pod", pod["metadata"]["name"], "--grace-period=0", "--force")

    assert_nothing_is_lost(installation, kill_all, WORKLOADS[component])


@pytest.mark.timeout(LONGEST_SECONDS)
@pytest.mark.parametrize("component", ["api", "indexer"])
def test_evictions_take_one_pod_at_a_time_and_lose_nothing(installation: Installation, component: str) -> None:
    def evict_all() -> None:
        first, *others = [pod["metadata"]["name"] for pod in installation.pods(component)]
        assert evict(installation, first)
        refusals = 0
        for name in others:
            refusals += not evict(installation, name)
            wait_until(functools.partial(evict, installation, name), bool, timeout_seconds=120)
        assert refusals

    assert_nothing_is_lost(installation, evict_all, WORKLOADS[component])


@pytest.mark.timeout(LONGEST_SECONDS)
def test_drained_node_takes_one_pod_of_each_part_and_loses_nothing(installation: Installation) -> None:
    ours = f"--pod-selector={COMPONENT} in (api,indexer)"

    def drain_and_uncordon() -> None:
        # There is no other node for the pods to go to: after one of each, the disruption budgets say no.
        try:
            with pytest.raises(DevstackError, match="disruption budget"):
                installation.kubectl("drain", NODE_NAME, ours, "--delete-emptydir-data", "--timeout=20s")
            for component in ("api", "indexer"):
                pods = installation.pods(component)
                assert sorted(pod["status"]["phase"] for pod in pods) == ["Pending", "Running"]
        finally:
            installation.kubectl("uncordon", NODE_NAME)
        installation.wait_ready(WORKLOADS["api"])

    assert_nothing_is_lost(installation, drain_and_uncordon, WORKLOADS["indexer"])


def assert_nothing_is_lost(installation: Installation, fault: Callable[[], None], workload: str) -> None:
    """Let a fault happen in the middle of load; all comes back, and each id is counted exactly."""
    with steady_load(installation, RATE, LONGEST_SECONDS) as load:
        load.wait_for(HITS)
        fault()
        installation.wait_ready(workload)
        load.wait_for(HITS, timeout_seconds=120)
        load.stop()
        load.assert_counted_exactly()


def evict(installation: Installation, name: str) -> bool:
    """Ask for a pod's eviction, as a drain of its node does; False if a disruption budget forbids it now."""
    metadata = {"name": name, "namespace": installation.namespace}
    wish = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
    path = f"/api/v1/namespaces/{installation.namespace}/pods/{name}/eviction"
    try:
        installation.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(wish))
    except DevstackError as error:
        if "disruption budget" in str(error):
            return False
        if "not found" in str(error):
            return True
        raise
    return True
