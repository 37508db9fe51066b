"""One installation of the chart on the real node: installed, asked, upgraded and removed as its users would."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from hitcounter_cluster.network import NODE_ADDRESS
from hitcounter_cluster.node import Node
from hitcounter_cluster.substitute_images import elasticsearch_release

from tests.support.stack import ApiClient

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts/hitcounter"
SMALL = ROOT / "tests/cluster/values.yaml"
RELEASE = "hc"
INDEXERS = f"deployment/{RELEASE}-hitcounter-indexer"
READY_SECONDS = 240
COMPONENT = "app.kubernetes.io/component"

Values = Mapping[str, Any]


class Installation:
    """A release in a namespace of its own.

    Args:
        node: where it is.
        namespace: made here, with the strictest level of Pod Security.
        helm: which Helm, as `tools/helm.sh` names it.
    """

    def __init__(self, node: Node, namespace: str, *, helm: str = "helm-4") -> None:
        self.node = node
        self.namespace = namespace
        self._helm = _path_of(helm)
        level = {"pod-security.kubernetes.io/enforce": "restricted"}
        wish = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": level}}
        node.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(wish))

    def apply(self, *files: Path, values: Values | None = None, chart: Path = CHART) -> str:
        """Install it, or upgrade it, wait until all is ready, and return what Helm printed."""
        return self.helm(
            *("upgrade", "--install", RELEASE, str(chart), "--wait", f"--timeout={READY_SECONDS}s"),
            *(f"--values={file}" for file in files),
            "--values=-",
            f"--set-string=elasticsearch.image.tag={elasticsearch_release().version}",
            stdin=json.dumps(values or {}),
        )

    def helm(self, *arguments: str, stdin: str = "") -> str:
        """Run Helm on this namespace and return what it printed."""
        command = [str(self._helm), f"--kubeconfig={self.node.plane.kubeconfig}", f"--namespace={self.namespace}"]
        answer = subprocess.run([*command, *arguments], input=stdin, capture_output=True, text=True, check=False)
        if answer.returncode != 0:
            raise AssertionError(f"helm {' '.join(arguments)} failed: {answer.stderr}\n{self.describe()}")
        return answer.stdout

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl on this namespace and return what it printed."""
        return self.node.kubectl(f"--namespace={self.namespace}", *arguments, stdin=stdin)

    def get(self, kind: str, *arguments: str) -> list[dict[str, Any]]:
        """Return the objects of a kind."""
        return list(json.loads(self.kubectl("get", kind, "--output=json", *arguments))["items"])

    def pods(self, component: str) -> list[dict[str, Any]]:
        """Return the pods of a component that are not on their way out."""
        pods = self.get("pods", f"--selector={COMPONENT}={component}")
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    @property
    def api(self) -> ApiClient:
        """The API, by its port on the node."""
        service = json.loads(self.kubectl("get", f"service/{RELEASE}-hitcounter-api", "--output=json"))
        return ApiClient(f"http://{NODE_ADDRESS}:{service['spec']['ports'][0]['nodePort']}")

    def wait_ready(self, *workloads: str) -> None:
        """Wait until these have as many ready pods as they should, as kubectl's `rollout status` names them."""
        for workload in workloads:
            self.kubectl("rollout", "status", workload, f"--timeout={READY_SECONDS}s")

    def describe(self) -> str:
        """Return what helps to see why something is not ready."""
        return "\n".join(
            self.kubectl(*command)
            for command in (("get", "pods", "--output=wide"), ("get", "events", "--sort-by=.lastTimestamp"))
        )

    def remove(self) -> None:
        """Delete the namespace with all that is in it, and wait until it is gone."""
        self.node.kubectl("delete", "namespace", self.namespace, "--wait", f"--timeout={READY_SECONDS}s")


def _path_of(helm: str) -> Path:
    # `make test-cluster` has fetched it.
    answer = subprocess.run([ROOT / "tools/helm.sh", "path", helm], capture_output=True, text=True, check=True)
    return Path(answer.stdout.strip())
