"""Installed as its users do it: Helm 4 and 3, a namespace that admits only `restricted`, the commands of the notes."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hitcounter_cluster.forwarding import forwarded
from hitcounter_devstack import LOCALHOST, free_port
from hitcounter_devstack.environment import inherited_environment

from tests.cluster.conftest import Install
from tests.cluster.installation import CHART, COMPONENT, INDEXERS, RELEASE, ROOT, SMALL, Installation
from tests.cluster.leftovers import KEPT, assert_leaves
from tests.cluster.load import steady_load
from tests.support.stack import ApiClient, wait_until

DEV = CHART / "values-dev.yaml"
PRODUCTION_LIKE = ROOT / "k8s/profiles/production-like.yaml"
WAYS: Mapping[str, tuple[str, Sequence[Path], Sequence[str]]] = {
    "helm-4-default": ("helm-4", [], []),
    "helm-3-dev": ("helm-3", [DEV], []),
    "helm-4-production-like": ("helm-4", [DEV, PRODUCTION_LIKE], ["metrics-server", "keda"]),
}
"""Which Helm, which files of values, and which add-ons they need."""
FULL = ("helm-4-production-like",)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("way", [pytest.param(it, marks=pytest.mark.full if it in FULL else ()) for it in WAYS])
def test_installs_in_a_restricted_namespace_counts_a_hit_and_leaves(install: Install, way: str) -> None:
    helm, files, addons = WAYS[way]
    installation = install(f"by-{way}", helm=helm, addons=addons)
    said = installation.apply(*files)
    assert all(is_ready(pod) for pod in installation.get("pods"))
    assert "Succeeded" in installation.helm("test", RELEASE)  # no --logs: Helm 3 asks a pod that has gone by then
    assert_notes_are_true(installation, said)
    assert_leaves(installation, {} if files == [DEV] else KEPT)


@pytest.mark.full
@pytest.mark.timeout(900)
def test_counts_and_queue_outlive_uninstalling(install: Install) -> None:
    installation = install("reinstalled")
    installation.apply(SMALL)
    with steady_load(installation, 100.0, 300.0) as load:
        load.wait_for(500)
        load.stop()
        load.assert_counted_exactly()
    # What was not indexed yet has to outlive it as well.
    installation.kubectl("scale", INDEXERS, "--replicas=0")
    installation.kubectl("wait", "--for=delete", "pod", f"--selector={COMPONENT}=indexer", "--timeout=60s")
    with steady_load(installation, 100.0, 300.0) as waiting:
        waiting.wait_for(500)
        waiting.stop()
    assert_leaves(installation, KEPT)
    installation.apply(SMALL)
    waiting.assert_counted_exactly()
    load.assert_counted_exactly()


def is_ready(pod: dict[str, dict[str, list[dict[str, str]]]]) -> bool:
    return any(it["type"] == "Ready" and it["status"] == "True" for it in pod["status"]["conditions"])


def assert_notes_are_true(installation: Installation, said: str) -> None:
    """Do what the notes say, only on a port that is free: wait, forward a port, send a hit, read it."""
    port = free_port()
    here = f"{LOCALHOST}:{port}"
    commands = [
        line.strip().partition("  #")[0].replace("localhost:8001", here)
        for line in said.splitlines()
        if line.startswith(("  kubectl", "  curl"))
    ]
    (wait,) = [command for command in commands if " wait " in command]
    (forward,) = [command for command in commands if "port-forward service/" in command]
    track, read, status = [command for command in commands if command.startswith("curl")][:3]
    run(installation, wait)
    forward = forward.removesuffix("&").replace(" 8001:", f" {port}:")
    with forwarded(["bash", "-c", f"exec {forward}"], port, environment(installation)):
        answer = wait_until(lambda: run(installation, track, is_checked=False), lambda it: "204" in it)
        assert "204" in answer
        ApiClient(f"http://{here}").wait_drained()
        assert '"count":1' in run(installation, read)
        assert '"accepted":' in run(installation, status)


def environment(installation: Installation) -> dict[str, str]:
    inherited = inherited_environment()
    path = f"{installation.node.commands_folder}:{inherited['PATH']}"
    return {**inherited, "PATH": path, "KUBECONFIG": str(installation.node.plane.kubeconfig)}


def run(installation: Installation, command: str, *, is_checked: bool = True) -> str:
    answer = subprocess.run(
        ["bash", "-c", command], env=environment(installation), capture_output=True, text=True, check=is_checked
    )
    return answer.stdout
