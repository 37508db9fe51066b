"""The cluster on machines with kind and Docker: several nodes, created by kind, set up as in docs/quickstart.md.

It uses no substitutes: the nodes of kind, Redis, Elasticsearch and the add-ons come from the registries.
"""

import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence

from hitcounter_devstack.environment import checkout
from hitcounter_devstack.errors import DevstackError, MissingPartError
from hitcounter_devstack.progress import say

from hitcounter_cluster.our_images import our_images

NAME = "hitcounter"
CONTEXT = f"kind-{NAME}"
ADDON_COMMANDS: Mapping[str, str] = {
    "keda": "helm upgrade --install keda keda --repo https://kedacore.github.io/charts --version 2.21.0 "
    "--namespace keda --create-namespace --values k8s/addons/keda-values.yaml",
    "prometheus": "helm upgrade --install monitoring kube-prometheus-stack "
    "--repo https://prometheus-community.github.io/helm-charts "
    "--namespace monitoring --create-namespace --values k8s/addons/kube-prometheus-stack-values.yaml",
    "metrics-server": "helm upgrade --install metrics-server metrics-server "
    "--repo https://kubernetes-sigs.github.io/metrics-server "
    "--namespace kube-system --values k8s/addons/metrics-server-values.yaml",
}
"""For each add-on, what installs it. A test holds them against docs/quickstart.md."""


def is_kind_here() -> bool:
    """Say whether kind can make a cluster on this machine."""
    if shutil.which("kind") is None or shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "version"], capture_output=True, check=False, timeout=20).returncode == 0


def up(addons: Sequence[str]) -> None:
    """Bring the cluster up with our images and these add-ons; again: only what is new.

    Raises:
        MissingPartError: add-ons want Helm, and there is none in PATH.
        DevstackError: a command failed; it has said why.
    """
    if addons and shutil.which("helm") is None:
        raise MissingPartError("Add-ons are installed by Helm, and there is no helm in PATH", "https://helm.sh")
    if not _exists():
        _run("kind create cluster --config kind-config.yaml")
    _run("tools/images.sh")
    names = [name.removeprefix("docker.io/library/") for name in our_images()]
    _run(f"kind load docker-image --name {NAME} {' '.join(names)}")
    for addon in addons:
        _run(f"{ADDON_COMMANDS[addon]} --kube-context {CONTEXT}")
    say(f"ready. To use it: kubectl --context {CONTEXT}")


def down() -> None:
    """Take it away, if there is one."""
    if _exists():
        _run(f"kind delete cluster --name {NAME}")


def _exists() -> bool:
    answer = subprocess.run(["kind", "get", "clusters"], capture_output=True, text=True, check=True)
    return NAME in answer.stdout.split()


def _run(command: str) -> None:
    say(command)
    if subprocess.run(shlex.split(command), cwd=checkout(), check=False).returncode != 0:
        raise DevstackError(f"this failed: {command}")
