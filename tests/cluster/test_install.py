"""Installed as its users do it: Helm 4 and 3, a namespace that admits only `restricted`, the commands of the notes."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from hitcounter_devstack.environment import inherited_environment

from tests.cluster.conftest import Install
from tests.cluster.installation import CHART, RELEASE, Installation
from tests.support.stack import ApiClient, wait_until

LEAVING_SECONDS = 60.0
KEPT = {"persistentvolumeclaims": {f"data-{RELEASE}-elasticsearch-0", f"data-{RELEASE}-redis-0"}}
KINDS = (
    *("configmaps", "cronjobs", "deployments", "endpointslices", "horizontalpodautoscalers", "jobs", "networkpolicies"),
    *("persistentvolumeclaims", "poddisruptionbudgets", "pods", "replicasets", "rolebindings", "roles", "secrets"),
    *("serviceaccounts", "services", "statefulsets"),
)
OF_EVERY_NAMESPACE = {"kube-root-ca.crt", "default"}


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("helm", "files"), [("helm-4", []), ("helm-3", [CHART / "values-dev.yaml"])], ids=["helm-4-default", "helm-3-dev"]
)
def test_installs_in_a_restricted_namespace_counts_a_hit_and_leaves(
    install: Install, helm: str, files: list[Path]
) -> None:
    installation = install(f"by-{helm}", helm=helm)
    said = installation.apply(*files)
    assert all(is_ready(pod) for pod in installation.get("pods"))
    assert "Succeeded" in installation.helm("test", RELEASE)  # no --logs: Helm 3 asks a pod that has gone by then
    assert_notes_are_true(installation, said)
    keeps = not files
    assert_leaves(installation, KEPT if keeps else {})


def is_ready(pod: dict[str, dict[str, list[dict[str, str]]]]) -> bool:
    return any(it["type"] == "Ready" and it["status"] == "True" for it in pod["status"]["conditions"])


def assert_notes_are_true(installation: Installation, said: str) -> None:
    """Do what the notes say, as it stands there: wait, forward a port, send a hit, read it."""
    commands = [
        line.strip().partition("  #")[0] for line in said.splitlines() if line.startswith(("  kubectl", "  curl"))
    ]
    (wait,) = [command for command in commands if " wait " in command]
    (forward,) = [command for command in commands if "port-forward service/" in command]
    track, read, status = [command for command in commands if command.startswith("curl")][:3]
    run(installation, wait)
    with subprocess.Popen(
        ["bash", "-c", f"exec {forward.removesuffix('&')}"], env=environment(installation), stdout=subprocess.DEVNULL
    ) as forwarding:
        try:
            answer = wait_until(lambda: run(installation, track, is_checked=False), lambda it: "204" in it)
            assert "204" in answer
            ApiClient("http://localhost:8001").wait_drained()
            assert '"count":1' in run(installation, read)
            assert '"accepted":' in run(installation, status)
        finally:
            forwarding.terminate()


def environment(installation: Installation) -> dict[str, str]:
    inherited = inherited_environment()
    path = f"{installation.node.commands_folder}:{inherited['PATH']}"
    return {**inherited, "PATH": path, "KUBECONFIG": str(installation.node.plane.kubeconfig)}


def run(installation: Installation, command: str, *, is_checked: bool = True) -> str:
    answer = subprocess.run(
        ["bash", "-c", command], env=environment(installation), capture_output=True, text=True, check=is_checked
    )
    return answer.stdout


def assert_leaves(installation: Installation, kept: dict[str, set[str]]) -> None:
    """`helm uninstall` takes less than a minute, and nothing is left but what the notes said."""
    begun = time.monotonic()
    installation.helm("uninstall", RELEASE, "--wait")
    left = wait_until(lambda: what_is_left(installation), lambda it: it == kept, LEAVING_SECONDS)
    assert left == kept
    assert time.monotonic() - begun < LEAVING_SECONDS


def what_is_left(installation: Installation) -> dict[str, set[str]]:
    names = {kind: {it["metadata"]["name"] for it in installation.get(kind)} - OF_EVERY_NAMESPACE for kind in KINDS}
    return {kind: found for kind, found in names.items() if found}
