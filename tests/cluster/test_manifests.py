"""What the chart renders, held against a real API server: its validation, its Pod Security, its RBAC.

The schemas of the chart's own level know fields and types; a server also knows what goes with what.
"""

from __future__ import annotations

import pytest
import yaml
from hitcounter_cluster.api_server import ApiServer
from hitcounter_devstack import DevstackError

from tests.chart.cases import PROFILES
from tests.chart.rendering import CHART, NAMESPACE, Case, Manifest, describe, render, render_all

FOREIGN = ("keda.sh/", "monitoring.coreos.com/", "gateway.networking.k8s.io/")
"""Groups of kinds that other projects bring."""
OPERATOR = Case("", {"operator": {"enabled": True}, "autoscaling": {"mode": "operator"}})
ACCOUNT = f"system:serviceaccount:{NAMESPACE}:hc-hitcounter-operator"

ALLOWED = [
    "list hitcounters.hitcounter.io",
    "watch hitcounters.hitcounter.io",
    "patch hitcounters.hitcounter.io/hc-hitcounter --subresource=status",
    "get deployments.apps/hc-hitcounter-indexer",
    "patch deployments.apps/hc-hitcounter-indexer --subresource=scale",
    "list horizontalpodautoscalers.autoscaling",
    "create leases.coordination.k8s.io",
    "update leases.coordination.k8s.io/hc-hitcounter-operator",
    "create events",
    "patch events",
]
REFUSED = [
    "patch hitcounters.hitcounter.io/hc-hitcounter",
    "patch hitcounters.hitcounter.io/another --subresource=status",
    "patch deployments.apps/hc-hitcounter-indexer",
    "patch deployments.apps/hc-hitcounter-api --subresource=scale",
    "list pods",
    "delete pods",
    "get secrets",
    "update leases.coordination.k8s.io/another",
    "list hitcounters.hitcounter.io --namespace=another",
]


@pytest.fixture
def server(api_server: ApiServer) -> ApiServer:
    """An API server that knows our kind and our namespace, and warns there of whatever is not `restricted`."""
    metadata = {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/warn": "restricted"}}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
    api_server.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(namespace))
    api_server.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CHART / "crds"))
    api_server.kubectl("wait", "--for=condition=Established", "crd/hitcounters.hitcounter.io", "--timeout=60s")
    return api_server


def apply(server: ApiServer, objects: list[Manifest], *options: str) -> str:
    listed = {"apiVersion": "v1", "kind": "List", "items": objects}
    return server.kubectl(
        "apply", "--server-side", "--validate=strict", *options, "-f", "-", stdin=yaml.safe_dump(listed)
    )


def test_api_server_takes_every_object_of_every_profile_without_a_warning(server: ApiServer) -> None:
    objects = {
        repr(item): item
        for rendering in render_all([*PROFILES, OPERATOR])
        for item in rendering.objects
        if not item["apiVersion"].startswith(FOREIGN) and item["kind"] != "Pod"  # one wants its account to be there
    }
    taken = apply(server, list(objects.values()), "--dry-run=server", "--warnings-as-errors").splitlines()
    assert len(taken) == len(objects)
    assert {describe(item).split()[0] for item in objects.values()} >= {"HitCounter", "Role", "StatefulSet"}


def test_api_server_warns_of_a_pod_that_is_not_restricted(server: ApiServer) -> None:
    values = {"securityContext": {"allowPrivilegeEscalation": True}}
    deployment = render(Case("", values)).one("Deployment", "api")
    with pytest.raises(DevstackError, match="allowPrivilegeEscalation"):
        apply(server, [deployment], "--dry-run=server", "--warnings-as-errors")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"minReplicas": 5, "maxReplicas": 4}, "minReplicas must not be above maxReplicas"),
        ({"mode": "auto"}, "Unsupported value"),
        ({"maxReplica": 4}, "unknown field"),
    ],
)
def test_api_server_refuses_a_hitcounter_that_makes_no_sense(
    server: ApiServer, change: dict[str, object], words: str
) -> None:
    (hitcounter,) = render(OPERATOR).all("HitCounter")
    spec = hitcounter["spec"]
    wrong = {**hitcounter, "spec": {**spec, "scaling": {**spec["scaling"], **change}}}
    with pytest.raises(DevstackError, match=words):
        apply(server, [wrong], "--dry-run=server")


def test_operator_may_do_what_its_role_says_and_nothing_else(server: ApiServer) -> None:
    kinds = ("ServiceAccount", "Role", "RoleBinding")
    apply(server, [item for item in render(OPERATOR).objects if item["kind"] in kinds])
    answers = {question: may(server, question) for question in ALLOWED + REFUSED}
    assert {question for question, answer in answers.items() if answer} == set(ALLOWED)


def may(server: ApiServer, question: str) -> bool:
    """Ask the server whether the operator's account may do that."""
    words = question.split()
    if not any(word.startswith("--namespace") for word in words):
        words.append(f"--namespace={NAMESPACE}")
    try:
        return server.kubectl("auth", "can-i", *words, f"--as={ACCOUNT}").strip() == "yes"
    except DevstackError:
        return False
