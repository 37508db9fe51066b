"""The resource is created, changed and deleted, operators come and go, and the API server does too."""

from __future__ import annotations

import json
import time

import pytest

from tests.cluster.operator.installation import CORE, OURS, Installation, documented_rules
from tests.support.proxy import FaultyWire
from tests.support.stack import wait_until

AWAY_SECONDS = 60.0


def test_created_resource_is_served_and_each_thing_done_is_an_event(installation: Installation) -> None:
    installation.deploy()
    installation.set_ready(0)
    operator = installation.run_operator()
    installation.create()
    installation.wait_event("TemplateCreated")  # by the operator: there is no indexer yet that would have done it
    installation.run_indexer()
    installation.set_ready(1)
    installation.wait_for(
        Ready="True AllWell",
        QueueReady="True QueueWell",
        IndexReady="True IndexWell",
        AutoscalingActive="True Scaling",
        SinkThrottled="False NoPushBack",
    )
    status = installation.status()
    assert status["observedGeneration"] == 1
    assert (status["backlog"], status["replicas"], status["desiredReplicas"], status["retentionDays"]) == (0, 1, 1, 4)
    assert {reason for _, reason, _ in installation.events()} == {"ConsumerGroupCreated", "TemplateCreated"}
    assert [event for event in installation.events() if event[0] == "Warning"] == []
    assert "TemplateCreated" in operator.log()


def test_condition_of_a_type_that_the_definition_does_not_know_is_accepted(installation: Installation) -> None:
    installation.create()
    condition = {
        "type": "RollupsActive",
        "status": "True",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-11-24T08:00:00Z",
        "reason": "AllWell",
        "message": "",
    }
    body = {"status": {"conditions": [condition]}}
    installation.kube.patch(OURS, "hitcounters", installation.name, "status", body=body)
    assert installation.conditions() == {"RollupsActive": "True AllWell"}


def test_resource_gets_no_finalizer(installation: Installation) -> None:
    installation.deploy()
    installation.run_operator()
    installation.create()
    installation.wait_for(QueueReady="True QueueWell")
    assert "finalizers" not in installation.resource()["metadata"]


def test_changed_resource_is_followed_at_once(installation: Installation) -> None:
    installation.deploy()
    installation.run_operator(HITCOUNTER_OPERATOR__INTERVAL_SECONDS="30")
    installation.create()
    wait_until(installation.status, lambda status: status.get("observedGeneration") == 1)
    installation.change(index={"retentionDays": 9})
    wait_until(installation.status, lambda status: status.get("observedGeneration") == 2, timeout_seconds=10)


def test_bounds_are_kept_whatever_else_is_known(installation: Installation) -> None:
    installation.deploy()
    installation.run_operator()
    installation.create(scaling={"minReplicas": 3, "maxReplicas": 5})
    assert installation.wait_replicas(lambda replicas: replicas > 1) == 3
    assert installation.wait_event("Scaled").startswith("Scaled 1 → 3: ")


def test_bad_spec_is_refused_by_the_api_server_with_a_sentence(installation: Installation) -> None:
    with pytest.raises(AssertionError, match="minReplicas must not be above maxReplicas"):
        installation.create(scaling={"minReplicas": 7, "maxReplicas": 6})
    with pytest.raises(AssertionError, match="should be greater than or equal to 4"):
        installation.create(index={"retentionDays": 3})


def test_deletion_of_the_resource_and_the_namespace_never_waits_for_an_operator(installation: Installation) -> None:
    installation.deploy()
    operator = installation.run_operator()
    installation.create()
    installation.wait_for(QueueReady="True QueueWell")
    operator.service.stop()
    kube = installation.kube
    kube.delete(OURS, "hitcounters", installation.name)
    assert installation.resource() == {}
    # A namespace ends when nothing in it has a finalizer, the rest being the controller manager's work, which is not
    # here: so whatever the operator made is looked at.
    for api, kind in ((CORE, "events"), ("apis/coordination.k8s.io/v1", "leases"), (OURS, "hitcounters")):
        assert [one for one in kube.get(api, kind)["items"] if "finalizers" in one["metadata"]] == []


def test_resource_that_is_deleted_and_made_anew_is_looked_after_anew(installation: Installation) -> None:
    installation.deploy()
    operator = installation.run_operator()
    installation.create(mode="observe")
    desired = "hitcounter_operator_desired_replicas{"
    wait_until(lambda: operator.get("/metrics")[1], lambda metrics: desired in metrics)
    installation.kube.delete(OURS, "hitcounters", installation.name)
    wait_until(lambda: operator.get("/metrics")[1], lambda metrics: desired not in metrics)
    installation.create(mode="observe")
    installation.wait_for(AutoscalingActive="False Observing")
    wait_until(lambda: operator.get("/metrics")[1], lambda metrics: desired in metrics)


def test_operator_killed_in_the_middle_is_followed_by_one_that_says_nothing_twice(installation: Installation) -> None:
    installation.deploy()
    installation.run_indexer()
    operator = installation.run_operator()
    installation.create(scaling={"minReplicas": 2})
    installation.wait_replicas(lambda replicas: replicas == 2)
    installation.wait_for(Ready="True AllWell")
    told = installation.events()
    operator.service.kill()
    successor = installation.run_operator(is_awaited=False)
    wait_until(lambda: successor.get("/readyz")[0], lambda status: status == 200, timeout_seconds=60)
    installation.change(index={"retentionDays": 8})
    wait_until(installation.status, lambda status: status.get("observedGeneration") == 2)
    installation.wait_for(Ready="True AllWell")
    assert installation.events() == told
    assert installation.replicas() == 2


@pytest.mark.timeout(240)
def test_api_server_away_for_a_minute_is_waited_for(installation: Installation) -> None:
    installation.deploy()
    installation.run_indexer()
    with FaultyWire(installation.kube.server.url) as wire:
        operator = installation.run_operator(server_url=wire.url)
        installation.create(mode="observe")
        installation.wait_for(Ready="True AllWell")
        wire.refuse()
        wait_until(lambda: operator.get("/readyz")[0], lambda status: status == 503)
        installation.change(scaling={"mode": "operator", "minReplicas": 4})
        deadline = time.monotonic() + AWAY_SECONDS
        wait_until(lambda: operator.get("/livez")[0] == 200 and time.monotonic() > deadline, bool, 2 * AWAY_SECONDS)
        assert "kubernetes" in operator.get("/readyz")[1]
        assert installation.replicas() == 1
        wire.heal()
        assert installation.wait_replicas(lambda replicas: replicas > 1) == 4
        installation.wait_for(Ready="True AllWell")
        wait_until(lambda: operator.get("/readyz")[0], lambda status: status == 200)
        # The watch is back, too: a change is followed long before the next turn would come by itself.
        installation.change(index={"retentionDays": 8})
        wait_until(installation.status, lambda status: status.get("observedGeneration") == 3)


def test_second_operator_by_mistake_only_waits_and_takes_over_from_one_that_leaves(installation: Installation) -> None:
    installation.deploy()
    installation.run_indexer()
    first = installation.run_operator()
    second = installation.run_operator(is_awaited=False)
    installation.create(scaling={"minReplicas": 2})
    installation.wait_replicas(lambda replicas: replicas == 2)
    wait_until(lambda: second.get("/readyz"), lambda answer: "is at work" in answer[1])
    assert second.get("/livez")[0] == 200
    assert [reason for _, reason, _ in installation.events()].count("Scaled") == 1
    assert first.service.terminate() == 0
    wait_until(lambda: second.get("/readyz")[0], lambda status: status == 200, timeout_seconds=10)
    installation.change(scaling={"minReplicas": 3})
    installation.wait_replicas(lambda replicas: replicas == 3)


def test_operator_that_was_frozen_leaves_the_work_to_the_one_that_took_over(installation: Installation) -> None:
    installation.deploy()
    installation.run_indexer()
    first = installation.run_operator()
    installation.create()
    installation.wait_for(Ready="True AllWell")
    second = installation.run_operator(is_awaited=False)
    first.service.pause()
    wait_until(lambda: second.get("/readyz")[0], lambda status: status == 200, timeout_seconds=60)
    first.service.resume()
    wait_until(lambda: first.get("/readyz"), lambda answer: "is at work" in answer[1])
    assert second.get("/readyz")[0] == 200


def test_token_that_was_exchanged_and_its_predecessor_revoked_costs_no_turn(installation: Installation) -> None:
    installation.deploy()
    old = installation.create_token(bound_to="old-token")
    file = installation.write_kubeconfig(old)
    operator = installation.run_operator({"KUBECONFIG": str(file)})
    installation.create(mode="observe")
    installation.wait_for(Ready="True AllWell")
    installation.write_kubeconfig(installation.create_token(), file=file)
    installation.kube.delete(CORE, "secrets", "old-token")
    wait_until(lambda: installation.kube.status_of(old), lambda status: status == 401, timeout_seconds=60)
    installation.change(scaling={"minReplicas": 2})
    wait_until(installation.status, lambda status: status.get("desiredReplicas") == 2, timeout_seconds=20)
    assert 'hitcounter_operator_turns_total{result="failed"} 0.0' in operator.get("/metrics")[1]
    assert operator.get("/readyz")[0] == 200


def test_definition_older_than_the_operator_costs_the_fields_that_it_lacks_and_nothing_else(
    installation: Installation,
) -> None:
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/hitcounters.hitcounter.io"
    definition = installation.kube.request("GET", path)
    older = json.loads(json.dumps(definition))
    status = older["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
    del status["settledPerSecond"]
    kinds = ["Ready", "QueueReady", "IndexReady", "AutoscalingActive", "ScalingLimited", "SinkThrottled"]
    status["conditions"]["items"]["properties"]["type"] = {"type": "string", "enum": kinds}
    try:
        installation.kube.request("PATCH", path, {"spec": older["spec"]}, kind="application/merge-patch+json")
        installation.deploy()
        operator = installation.run_operator()
        installation.create(scaling={"minReplicas": 2})
        installation.wait_for(Ready="True AllWell")
        assert installation.replicas() == 2
        assert "arrivalPerSecond" in installation.status()
        assert "settledPerSecond" not in installation.status()
        assert 'hitcounter_operator_turns_total{result="failed"} 0.0' in operator.get("/metrics")[1]
    finally:
        body = {"spec": definition["spec"]}
        installation.kube.request("PATCH", path, body, kind="application/merge-patch+json")


def test_documented_rights_are_a_role_that_is_bound_to_one_installation() -> None:
    rules = documented_rules("count")
    assert len(rules) == 8
    by_resource = {(rule["resources"][0], tuple(rule["verbs"])): rule.get("resourceNames") for rule in rules}
    assert by_resource["deployments/scale", ("get", "patch")] == ["indexer"]
    assert by_resource["hitcounters/status", ("patch",)] == ["count"]
    assert by_resource["leases", ("get", "update")] == ["count-operator"]


def test_operator_without_a_cluster_lives_says_what_it_waits_for_and_ends_when_asked(
    installation: Installation,
) -> None:
    operator = installation.run_operator({"KUBECONFIG": "", "HOME": "/nonexistent"}, is_awaited=False)
    wait_until(lambda: operator.get("/readyz"), lambda answer: "no kubeconfig" in answer[1])
    assert operator.get("/livez")[0] == 200
    assert operator.service.terminate() == 0
