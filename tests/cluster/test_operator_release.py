"""The operator as the chart installs it: with the rights of its Role, its user in Redis, and nothing it could write."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cluster.conftest import Install
from tests.cluster.installation import INDEXERS, RELEASE, SMALL, Installation, Values
from tests.support.stack import wait_until

LEAVING_SECONDS = 60
FEWEST_INDEXERS = 2
HITCOUNTER = f"hitcounter/{RELEASE}-hitcounter"
SCALED: Values = {
    "api": {"replicas": 1},
    "indexer": {"replicas": None},
    "redis": {"auth": {"operatorPassword": "dev-operator"}},
    "operator": {"enabled": True, "config": {"operator": {"interval_seconds": 2}}},
    "autoscaling": {"mode": "operator", "minReplicas": FEWEST_INDEXERS, "maxReplicas": 3},
}


@pytest.mark.timeout(900)
def test_operator_scales_explains_and_leaves_with_no_more_rights_than_its_role(install: Install) -> None:
    installation = install("operator")
    said = installation.apply(SMALL, values=SCALED)
    assert f"describe {HITCOUNTER.replace('/', ' ')}" in said
    installation.kubectl("wait", "--for=condition=Ready", HITCOUNTER, "--timeout=120s")
    # A Deployment that nobody told a number begins with one pod.
    wait_until(lambda: get(installation, INDEXERS)["spec"]["replicas"], lambda it: it == FEWEST_INDEXERS)
    installation.wait_ready(INDEXERS)
    wait_until(lambda: get(installation, HITCOUNTER)["status"], lambda it: it.get("readyReplicas") == FEWEST_INDEXERS)
    assert_all_is_well(installation)
    installation.helm("uninstall", RELEASE, "--wait", f"--timeout={LEAVING_SECONDS}s")
    assert not installation.get("hitcounters")
    assert not installation.get("roles") + installation.get("rolebindings")


def get(installation: Installation, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(installation.kubectl("get", name, "--output=json"))
    return found


def assert_all_is_well(installation: Installation) -> None:
    """Nothing was refused to it, it was never started anew, and it has said what it did."""
    log = installation.kubectl("logs", f"deployment/{RELEASE}-hitcounter-operator")
    assert "orbidden" not in log
    assert "NOPERM" not in log
    (pod,) = installation.pods("operator")
    assert [status["restartCount"] for status in pod["status"]["containerStatuses"]] == [0]
    status = get(installation, HITCOUNTER)["status"]
    conditions = {condition["type"]: condition["status"] for condition in status["conditions"]}
    assert conditions.items() >= {"Ready": "True", "QueueReady": "True", "IndexReady": "True"}.items()
    assert status["replicas"] == FEWEST_INDEXERS
    events = [event for event in installation.get("events") if event["involvedObject"]["kind"] == "HitCounter"]
    (scaled,) = [event for event in events if event["reason"] == "Scaled"]
    assert scaled["message"].startswith(f"Scaled 1 → {FEWEST_INDEXERS}: ")
