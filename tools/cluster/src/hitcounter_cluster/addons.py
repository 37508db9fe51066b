"""The optional add-ons of a cluster: DNS, KEDA, metrics-server, Prometheus. Each one is independent.

The manifests of KEDA and metrics-server come with their Go modules; ours are in `manifests/`. They are changed only as
far as this node requires: its images, and no pulling.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from hitcounter_devstack.progress import say, ticking

from hitcounter_cluster.archive import Image
from hitcounter_cluster.node import Node
from hitcounter_cluster.our_images import our_images
from hitcounter_cluster.programs import KEDA_OPERATOR, METRICS_SERVER, module_source
from hitcounter_cluster.substitute_images import (
    keda_images,
    metrics_server_images,
    node_images,
    prometheus_images,
    require_archive,
)

MANIFESTS = Path(__file__).with_name("manifests")
READY_SECONDS = 180

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Addon:
    """One add-on.

    Attributes:
        images: returns what it runs.
        manifests: returns what is applied, given the node.
        ready: what is waited for, as kubectl's `rollout status` names it, by namespace.
        apis: APIs that it serves for others to use.
        arguments: more arguments of containers, by their names.
    """

    images: Callable[[], list[Image]]
    manifests: Callable[[Node], str]
    ready: Mapping[str, Sequence[str]]
    apis: Sequence[str] = ()
    arguments: Mapping[str, Sequence[str]] = field(default_factory=dict)


def _own(name: str) -> Callable[[Node], str]:
    return lambda _: (MANIFESTS / f"{name}.yaml").read_text()


def _keda(node: Node) -> str:
    return node.kubectl("kustomize", str(module_source(KEDA_OPERATOR) / "config" / "default"))


def _metrics_server(node: Node) -> str:
    return node.kubectl("kustomize", str(module_source(METRICS_SERVER) / "manifests" / "base"))


ADDONS: Mapping[str, Addon] = {
    "coredns": Addon(node_images, _own("coredns"), {"kube-system": ["deployment/coredns"]}),
    "keda": Addon(
        keda_images,
        _keda,
        {"keda": ["deployment/keda-operator", "deployment/keda-metrics-apiserver"]},
        ["v1beta1.external.metrics.k8s.io"],
        # There are none to patch.
        {"keda-operator": ["--enable-webhook-patching=false"]},
    ),
    "metrics-server": Addon(
        metrics_server_images,
        _metrics_server,
        {"kube-system": ["deployment/metrics-server"]},
        ["v1beta1.metrics.k8s.io"],
        # The kubelet's certificate is the cluster's own authority's, whom metrics-server does not know.
        {"metrics-server": ["--kubelet-insecure-tls"]},
    ),
    "prometheus": Addon(prometheus_images, _own("prometheus"), {"monitoring": ["deployment/prometheus"]}),
}


def install(node: Node, name: str) -> None:
    """Bring an add-on to the node, or up to date, and wait until it serves.

    Raises:
        MissingPartError: a program that it needs cannot be had here.
        DevstackError: it was refused, or was not ready in time.
    """
    addon = ADDONS[name]
    images = addon.images()
    for image in images:
        node.import_image(require_archive(image))
    documents = [_adapt(document, images, addon.arguments) for document in _load(addon.manifests(node))]
    say(f"installing {name}")
    # Kinds first: whoever uses them follows. Server-side, for KEDA's are too long for an annotation.
    for part in filter(None, (_first(documents), documents)):
        node.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=yaml.safe_dump_all(part))
    with ticking(f"waiting for {name}"):
        for namespace, workloads in addon.ready.items():
            for workload in workloads:
                node.kubectl("-n", namespace, "rollout", "status", workload, f"--timeout={READY_SECONDS}s")
        for api in addon.apis:
            node.kubectl("wait", "--for=condition=Available", f"apiservice/{api}", f"--timeout={READY_SECONDS}s")


def _load(text: str) -> list[Manifest]:
    documents = [document for document in yaml.safe_load_all(text) if document]
    return [document for document in documents if not _is_admission(document)]


def _is_admission(document: Manifest) -> bool:
    """Say whether this is of KEDA's admission webhooks: a third program, which only checks what people write."""
    return document["kind"] == "ValidatingWebhookConfiguration" or "admission" in document["metadata"]["name"]


def _first(documents: Iterable[Manifest]) -> list[Manifest]:
    return [document for document in documents if document["kind"] in ("Namespace", "CustomResourceDefinition")]


def _adapt(document: Manifest, images: Sequence[Image], arguments: Mapping[str, Sequence[str]]) -> Manifest:
    if document["kind"] == "Deployment":
        for container in document["spec"]["template"]["spec"]["containers"]:
            container["image"] = _at_hand(container["image"], images)
            container["imagePullPolicy"] = "Never"
            container["args"] = [*container.get("args", []), *arguments.get(container["name"], [])]
            container["resources"] = {"requests": {"cpu": "20m", "memory": "64Mi"}}
    return document


def _at_hand(wanted: str, images: Sequence[Image]) -> str:
    """Return the name of the image that the node has of this program, whatever its registry and tag."""
    program = wanted.rpartition("/")[2].partition(":")[0]
    names = [*(image.name for image in images), *our_images()]
    return next(name for name in names if name.rpartition("/")[2].partition(":")[0] == program)
