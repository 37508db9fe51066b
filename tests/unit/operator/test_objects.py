"""What is read of Kubernetes' objects, and what is written."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hitcounter_operator.objects import (
    LeaseRecord,
    build_event,
    build_lease,
    find_scalers,
    list_names,
    read_deployment,
    read_pods,
)
from hitcounter_operator.resource import HitCounter

NOW = datetime(2026, 11, 24, 8, 0, 5, 123456, tzinfo=UTC)
ABOUT = HitCounter(name="count", namespace="shop", uid="7", generation=1, spec={}, status={})


def pod(**status: Any) -> dict[str, Any]:
    """Return a pod of an indexer as the API server tells it."""
    return {
        "metadata": {"name": "indexer-0", "uid": "1", "creationTimestamp": "2026-11-24T08:00:00Z"},
        "spec": {
            "containers": [
                {"name": "proxy"},
                {"name": "indexer", "ports": [{"containerPort": 1}, {"name": "management", "containerPort": 8082}]},
            ]
        },
        "status": status,
    }


def read_pod(**status: Any) -> Any:
    (found,) = read_pods({"items": [pod(**status)]})
    return found


@pytest.mark.parametrize(
    ("ip", "address"), [("10.0.0.7", "10.0.0.7:8082"), ("fd00::7", "[fd00::7]:8082"), (None, None)]
)
def test_metrics_of_a_pod_are_at_its_address_and_the_port_of_that_name(ip: str | None, address: str | None) -> None:
    assert read_pod(**({"podIP": ip} if ip else {})).address == address


def test_pod_is_ready_since_its_condition_turned() -> None:
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-24T08:00:12Z"}
    found = read_pod(conditions=[ready])
    assert (found.ready_at - found.created_at).total_seconds() == 12
    assert read_pod(conditions=[{**ready, "status": "False"}]).ready_at is None


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_pods_that_ended_or_are_about_to_go_do_not_count(phase: str) -> None:
    leaving = pod()
    leaving["metadata"]["deletionTimestamp"] = "2026-11-24T08:00:00Z"
    assert read_pods({"items": [pod(phase=phase), leaving]}) == []


def test_deployment_without_replicas_asks_for_one_and_has_none_ready() -> None:
    found = read_deployment({"metadata": {"name": "indexer"}, "spec": {"selector": {"matchLabels": {"a": "b"}}}})
    assert (found.replicas, found.ready_replicas, found.selector) == (1, 0, "a=b")


def test_selector_is_written_as_the_api_server_takes_it() -> None:
    expressions = [
        {"key": "tier", "operator": "In", "values": ["a", "b"]},
        {"key": "zone", "operator": "NotIn", "values": ["c"]},
        {"key": "old", "operator": "DoesNotExist"},
        {"key": "new", "operator": "Exists"},
    ]
    selector = {"matchLabels": {"app": "x"}, "matchExpressions": expressions}
    found = read_deployment({"metadata": {"name": "indexer"}, "spec": {"selector": selector}})
    assert found.selector == "app=x,tier in (a,b),zone notin (c),!old,new"


def test_scalers_of_other_deployments_and_of_other_kinds_are_left_out() -> None:
    def scaler(name: str, kind: str, target: str) -> dict[str, Any]:
        return {"metadata": {"name": name}, "spec": {"scaleTargetRef": {"kind": kind, "name": target}}}

    items = [
        scaler("one", "Deployment", "indexer"),
        scaler("two", "Deployment", "api"),
        scaler("three", "StatefulSet", "indexer"),
    ]
    assert find_scalers({"items": items}, "indexer") == ["one"]


def test_event_is_about_the_resource_and_no_longer_than_kubernetes_takes() -> None:
    event = build_event(
        ABOUT, name="count.1", reason="Scaled", message="→" * 2000, is_warning=True, now=NOW, reporter="operator-1"
    )
    assert event["involvedObject"]["uid"] == "7"
    assert event["type"] == "Warning"
    assert event["firstTimestamp"] == "2026-11-24T08:00:05Z"
    assert len(event["message"].encode()) <= 1024


def test_lease_names_the_version_it_replaces_and_a_new_one_names_none() -> None:
    record = LeaseRecord(holder="a", duration_seconds=20.0, renewed_at="", transitions=3, version="9")
    lease = build_lease("lease", record, NOW)
    assert lease["metadata"] == {"name": "lease", "resourceVersion": "9"}
    assert lease["spec"]["renewTime"] == "2026-11-24T08:00:05.123456Z"
    new = build_lease("lease", LeaseRecord("a", 20.0, "", 1, ""), NOW)
    assert new["metadata"] == {"name": "lease"}


def test_many_names_are_told_by_the_first_and_how_many_more_there_are() -> None:
    assert list_names("abc", 3) == "a, b, c"
    assert list_names("abcd", 3) == "a, b, c and 1 more"
