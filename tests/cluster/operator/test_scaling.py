"""Real hits through a real API and real indexers move the number of replicas, and each move is explained."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import pytest
from hitcounter_operator.cluster import Cluster
from hitcounter_operator.state import Deployment
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.api.custom_objects_api import CustomObjectsApi
from kubernetes.aio.config import load_kube_config

from tests.cluster.operator.installation import (
    APPS,
    DEPLOYMENT,
    RBAC,
    Installation,
    documented_rules,
)
from tests.support.stack import Api, wait_until

HITS = 10_000
SLOW = {"hitsPerBusySecond": 500, "drainTargetSeconds": 10, "cooldownSeconds": 10, "maxReplicas": 8}
"""As if one indexer did 500 hits in a busy second: so a backlog of 10,000 is worth two in ten seconds."""


def send(api: Api, batches: int = 1) -> None:
    """Send batches of hits."""
    body = json.dumps([{"id": f"page-{number % 100}"} for number in range(HITS)]).encode()
    for _ in range(batches):
        request = urllib.request.Request(f"{api.url}/analytics/batch", data=body, method="POST")
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 204


@contextmanager
def another_scaler(installation: Installation) -> Iterator[None]:
    """A HorizontalPodAutoscaler for the same Deployment, inside the block."""
    kube, api = installation.kube, "apis/autoscaling/v2"
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": DEPLOYMENT}
    metric = {"type": "External", "external": {"metric": {"name": "x"}, "target": {"type": "Value", "value": "1"}}}
    spec = {"scaleTargetRef": target, "maxReplicas": 3, "metrics": [metric]}
    kube.create(api, "horizontalpodautoscalers", {"metadata": {"name": "keda-hpa-indexer"}, "spec": spec})
    yield
    kube.delete(api, "horizontalpodautoscalers", "keda-hpa-indexer")


def test_deployment_that_the_role_does_not_name_is_a_condition_and_all_else_is_told(installation: Installation) -> None:
    installation.deploy()
    installation.set_ready(0)
    installation.run_operator()
    installation.create()
    installation.wait_for(AutoscalingActive="True Scaling")
    installation.change(indexer={"deployment": "another"})
    installation.wait_for(AutoscalingActive="False IndexersUnknown", Ready="False IndexersUnknown")
    assert "403" in installation.wait_event("IndexersUnknown")
    assert installation.status()["observedGeneration"] == 2
    assert installation.conditions()["QueueReady"] == "True QueueWell"


def test_deployment_that_may_not_be_scaled_is_a_condition_until_it_may(installation: Installation) -> None:
    installation.deploy()
    installation.set_ready(0)
    rules = [rule for rule in documented_rules(installation.name) if rule["resources"] != ["deployments/scale"]]
    installation.kube.patch(RBAC, "roles", "operator", body={"rules": rules})
    installation.run_operator()
    installation.create(scaling={"minReplicas": 3})
    installation.wait_for(AutoscalingActive="False ScaleFailed", Ready="False ScaleFailed")
    assert installation.conditions()["QueueReady"] == "True QueueWell"
    installation.kube.patch(RBAC, "roles", "operator", body={"rules": documented_rules(installation.name)})
    assert installation.wait_replicas(lambda replicas: replicas == 3) == 3
    installation.wait_for(AutoscalingActive="True Scaling")


def test_backlog_without_indexers_at_work_scales_up_and_its_end_scales_down(installation: Installation) -> None:
    api = installation.stack.api()
    installation.deploy()
    operator = installation.run_operator()
    installation.create(scaling=SLOW)
    wait_until(installation.status, lambda status: status.get("desiredReplicas") == 1)
    send(api)
    assert installation.wait_replicas(lambda replicas: replicas > 1) >= 2
    message = installation.wait_event("Scaled")
    assert message.startswith("Scaled 1 → ")
    assert "catch-up 2.0" in message
    assert "→" in installation.status()["decision"]
    installation.run_indexer()
    installation.set_ready(1)
    api.wait_drained()
    assert installation.wait_replicas(lambda replicas: replicas == 1, timeout_seconds=60) == 1
    wait_until(installation.status, lambda status: status.get("backlog") == 0)
    assert 'hitcounter_operator_scaling_term_replicas{term="demand"} 0.0' in operator.get("/metrics")[1]


def test_what_one_indexer_can_do_is_learnt_from_the_ledger(installation: Installation) -> None:
    api = installation.stack.api()
    installation.deploy()
    installation.run_operator()
    installation.run_indexer()
    installation.create(mode="observe", scaling={"hitsPerBusySecond": 1})
    wait_until(installation.status, lambda status: status.get("hitsPerBusySecond") == 1)

    def send_and_look() -> dict[str, Any]:
        send(api, batches=3)  # again and again: some milliseconds of work are too few to measure
        return installation.status()

    wait_until(send_and_look, lambda status: status.get("hitsPerBusySecond", 0) > 100)


def test_observed_installation_is_told_what_would_be_done_and_nothing_is(installation: Installation) -> None:
    api = installation.stack.api()
    installation.deploy()
    installation.run_operator()
    installation.create(mode="observe", scaling=SLOW)
    wait_until(installation.status, lambda status: status.get("desiredReplicas") == 1)
    send(api)
    assert installation.wait_event("WouldScale").startswith("Would scale 1 → ")
    assert installation.replicas() == 1
    wait_until(installation.status, lambda status: status["desiredReplicas"] > 1)
    assert installation.status()["replicas"] == 1


def test_deployment_that_another_scaler_drives_is_left_alone(installation: Installation) -> None:
    installation.deploy()
    installation.run_operator()
    with another_scaler(installation):
        installation.create(scaling={"minReplicas": 4})
        installation.wait_for(AutoscalingActive="False ManagedByHPA", Ready="False ManagedByHPA")
        assert "keda-hpa-indexer also scales the Deployment indexer" in installation.wait_event("ManagedByHPA")
        assert installation.replicas() == 1
    assert installation.wait_replicas(lambda replicas: replicas > 1) == 4


def test_deployment_that_somebody_set_to_zero_stays_so(installation: Installation) -> None:
    installation.deploy()
    installation.run_operator()
    installation.create(scaling={"minReplicas": 2})
    installation.wait_replicas(lambda replicas: replicas == 2)
    installation.kube.patch(APPS, "deployments", DEPLOYMENT, "scale", body={"spec": {"replicas": 0}})
    installation.wait_for(AutoscalingActive="False ScaledToZero")
    assert installation.replicas() == 0
    installation.kube.patch(APPS, "deployments", DEPLOYMENT, "scale", body={"spec": {"replicas": 1}})
    assert installation.wait_replicas(lambda replicas: replicas > 1) == 2


def test_absent_deployment_is_a_condition_until_it_is_there(installation: Installation) -> None:
    installation.run_operator()
    installation.create()
    installation.wait_for(AutoscalingActive="False DeploymentNotFound")
    installation.deploy()
    installation.run_indexer()
    installation.wait_for(Ready="True AllWell")


def test_more_than_is_allowed_is_said_to_be_limited(installation: Installation) -> None:
    api = installation.stack.api()
    installation.deploy()
    installation.run_operator()
    installation.create(scaling={**SLOW, "maxReplicas": 2, "hitsPerBusySecond": 100})
    wait_until(installation.status, lambda status: status.get("desiredReplicas") == 1)
    send(api)
    assert installation.wait_replicas(lambda replicas: replicas > 1) == 2
    installation.wait_for(ScalingLimited="True TooFewAllowed")
    assert "limited to 2 by maxReplicas" in installation.wait_event("Scaled")


async def test_deployment_that_somebody_changed_since_it_was_read_is_left_alone(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read is old by the time of the change, as from a cache that is behind."""
    installation.deploy()
    kube, kubeconfig = installation.kube, installation.write_kubeconfig(installation.create_token())

    async def load(configuration: Configuration) -> None:
        await load_kube_config(str(kubeconfig), client_configuration=configuration)  # type: ignore[no-untyped-call]

    async with aclosing(Cluster(installation.name, load)) as cluster:
        assert await cluster.find_deployment(DEPLOYMENT) == Deployment(1, 1)
        kube.patch(APPS, "deployments", DEPLOYMENT, "scale", body={"spec": {"replicas": 3}})
        assert not await cluster.scale(DEPLOYMENT, current=1, wanted=5)
        stale = kube.get(APPS, "deployments", DEPLOYMENT, "scale")
        for replicas in (4, 3):
            kube.patch(APPS, "deployments", DEPLOYMENT, "scale", body={"spec": {"replicas": replicas}})

        async def read_stale(*_: object) -> dict[str, object]:
            return stale

        with monkeypatch.context() as patch:
            patch.setattr(CustomObjectsApi, "get_namespaced_custom_object_scale", read_stale)
            assert not await cluster.scale(DEPLOYMENT, current=3, wanted=5)
        assert installation.replicas() == 3
        assert await cluster.scale(DEPLOYMENT, current=3, wanted=5)
    assert installation.replicas() == 5
