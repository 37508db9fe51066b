"""One installation in a cluster that has no nodes: what the kubelet and the controllers would do, the tests do.

The operator is our command as a process, with a service account that has exactly the rights which docs/operator.md
lists. The indexers are real, too, but no pods.
"""

from __future__ import annotations

import contextlib
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from hitcounter_cluster.api_server import ApiServer
from hitcounter_devstack import free_port
from hitcounter_devstack.services import Service, command_path

from tests.cluster.operator.kube import Kube
from tests.support.stack import Stack, wait_until

ROOT = Path(__file__).parents[3]
OURS = "apis/hitcounter.io/v1alpha1"
APPS = "apis/apps/v1"
CORE = "api/v1"
RBAC = "apis/rbac.authorization.k8s.io/v1"
DEPLOYMENT = "indexer"
LABELS = {"app.kubernetes.io/component": "indexer"}

_ROW = re.compile(r"^\| (?:`([a-z0-9.]+)`)? *\| `([a-z/]+)`([^|]*)\| ([a-z, ]+) \|", re.MULTILINE)


def documented_rules(name: str) -> list[dict[str, Any]]:
    """Return the rules of the operator's Role, as docs/operator.md lists them."""
    names = {
        "only that of the indexers": DEPLOYMENT,
        "only of its own `HitCounter`": name,
        "only `<name>-operator`": f"{name}-operator",
    }
    rules = []
    for group, resource, whose, verbs in _ROW.findall((ROOT / "docs/operator.md").read_text()):
        rule: dict[str, Any] = {"apiGroups": [group], "resources": [resource], "verbs": verbs.split(", ")}
        for words, resource_name in names.items():
            if words in whose:
                rule["resourceNames"] = [resource_name]
        rules.append(rule)
    return rules


class Operator:
    """One process of the operator."""

    def __init__(self, service: Service, port: int) -> None:
        self.service = service
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str) -> tuple[int, str]:
        """Ask its management port; return status and body."""
        try:
            with urllib.request.urlopen(f"{self.url}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def log(self) -> str:
        """Return all that it printed."""
        return self.service.log_file.read_text()


class Installation:
    """The namespace of one installation, empty but for its Deployment and the operator's account.

    Args:
        server: the API server.
        stack: the stores, with names of the installation's own.
        folder: for logs and configurations.
    """

    def __init__(self, server: ApiServer, stack: Stack, folder: Path) -> None:
        self.name = stack.name
        self.stack = stack
        self.kube = Kube(server, stack.name)
        self._server = server
        self._folder = folder
        self._services = contextlib.ExitStack()

    def __enter__(self) -> Installation:
        self._prepare()
        return self

    def __exit__(self, *_: object) -> None:
        self._services.close()

    # ── what the chart and the cluster would make ───────────────────────────────────────────────────────────────────

    def _prepare(self) -> None:
        kube = self.kube
        kube.request("POST", "/api/v1/namespaces", {"metadata": {"name": self.name}})
        for account in ("default", "operator"):
            kube.create(CORE, "serviceaccounts", {"metadata": {"name": account}})
        kube.create(RBAC, "roles", {"metadata": {"name": "operator"}, "rules": documented_rules(self.name)})
        subject = {"kind": "ServiceAccount", "name": "operator", "namespace": self.name}
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "operator"}
        body = {"metadata": {"name": "operator"}, "subjects": [subject], "roleRef": reference}
        kube.create(RBAC, "rolebindings", body)

    def deploy(self, replicas: int = 1) -> None:
        """Make the Deployment of the indexers."""
        spec = {
            "replicas": replicas,
            "selector": {"matchLabels": LABELS},
            "template": {"metadata": {"labels": LABELS}, "spec": {"containers": [_build_container(8082)]}},
        }
        self.kube.create(APPS, "deployments", {"metadata": {"name": DEPLOYMENT}, "spec": spec})
        self.set_ready(replicas)

    def set_ready(self, replicas: int) -> None:
        """Say how many indexers are ready, as the controller of Deployments would."""
        status = {"replicas": replicas, "readyReplicas": replicas, "availableReplicas": replicas}
        self.kube.patch(APPS, "deployments", DEPLOYMENT, "status", body={"status": status})

    def run_indexer(self, **environment: str) -> Service:
        """Start a real indexer."""
        port = free_port()
        service = self.stack.indexer({"HITCOUNTER_MANAGEMENT__PORT": str(port)}, is_awaited=False, **environment)
        wait_until(lambda: _status(f"http://127.0.0.1:{port}/readyz"), lambda status: status == 200)
        return service

    # ── the operator ────────────────────────────────────────────────────────────────────────────────────────────────

    def run_operator(
        self,
        environment: Mapping[str, str] | None = None,
        *,
        server_url: str | None = None,
        is_awaited: bool = True,
        **overrides: str,
    ) -> Operator:
        """Start an operator; server_url is a way to the API server other than the straight one."""
        port = free_port()
        service = Service(
            [command_path("hitcounter-operator")],
            log_file=self._folder / f"operator-{port}.log",
            ready_url=f"http://127.0.0.1:{port}/readyz",
            environment={
                **self.stack.environment,
                "KUBECONFIG": str(self.write_kubeconfig(self.create_token(), server_url)),
                "HITCOUNTER_OPERATOR__NAMESPACE": self.name,
                "HITCOUNTER_OPERATOR__NAME": self.name,
                "HITCOUNTER_OPERATOR__INTERVAL_SECONDS": "2",
                "HITCOUNTER_OPERATOR__CARE_INTERVAL_SECONDS": "2",
                "HITCOUNTER_MANAGEMENT__PORT": str(port),
                **(environment or {}),
                **overrides,
            },
        )
        service.start()
        self._services.callback(service.kill)
        if is_awaited:
            service.wait_ready()
        return Operator(service, port)

    def create_token(self, bound_to: str | None = None) -> str:
        """Return a token of the operator's account; with the name of a Secret, it ends with that Secret."""
        spec: dict[str, Any] = {"expirationSeconds": 3600}
        if bound_to is not None:
            secret = self.kube.create(CORE, "secrets", {"metadata": {"name": bound_to}})
            uid = secret["metadata"]["uid"]
            spec["boundObjectRef"] = {"kind": "Secret", "apiVersion": "v1", "name": bound_to, "uid": uid}
        path = self.kube.path(CORE, "serviceaccounts", "operator", "token")
        return str(self.kube.request("POST", path, {"spec": spec})["status"]["token"])

    def write_kubeconfig(self, token: str, url: str | None = None, file: Path | None = None) -> Path:
        """Write a kubeconfig with that token, to a new file unless one is named."""
        content = yaml.safe_load(self._server.kubeconfig.read_text())
        content["clusters"][0]["cluster"]["server"] = url or self._server.url
        content["users"][0]["user"] = {"token": token}
        file = file or self._folder / f"kubeconfig-{free_port()}"
        file.write_text(yaml.safe_dump(content))
        return file

    # ── the resource ────────────────────────────────────────────────────────────────────────────────────────────────

    def create(self, *, mode: str = "operator", **spec: Any) -> None:
        """Create the HitCounter."""
        scaling = {"mode": mode, **spec.pop("scaling", {})}
        body = {
            "apiVersion": "hitcounter.io/v1alpha1",
            "kind": "HitCounter",
            "metadata": {"name": self.name},
            "spec": {"indexer": {"deployment": DEPLOYMENT}, "scaling": scaling, **spec},
        }
        self.kube.create(OURS, "hitcounters", body)

    def change(self, **spec: Any) -> None:
        """Change its spec."""
        self.kube.patch(OURS, "hitcounters", self.name, body={"spec": spec})

    def resource(self) -> dict[str, Any]:
        """Return it."""
        return self.kube.get(OURS, "hitcounters", self.name)

    def status(self) -> dict[str, Any]:
        """Return its status."""
        return dict(self.resource().get("status", {}))

    def conditions(self) -> dict[str, str]:
        """Return (status reason) of each condition."""
        return {one["type"]: f"{one['status']} {one['reason']}" for one in self.status().get("conditions", [])}

    def wait_for(self, timeout_seconds: float = 30.0, **conditions: str) -> None:
        """Wait until conditions are as given, such as `Ready="True AllWell"`."""
        wait_until(self.conditions, lambda found: conditions.items() <= found.items(), timeout_seconds)

    def events(self) -> list[tuple[str, str, str]]:
        """Return (type, reason, message) of each Event, the oldest first."""
        items = self.kube.get(CORE, "events")["items"]
        items.sort(key=lambda one: (one["firstTimestamp"], one["metadata"]["creationTimestamp"]))
        return [(one["type"], one["reason"], one["message"]) for one in items]

    def wait_event(self, reason: str, timeout_seconds: float = 30.0) -> str:
        """Wait for an Event of that reason, and return its message."""

        def find() -> list[str]:
            return [message for _, event_reason, message in self.events() if event_reason == reason]

        return wait_until(find, bool, timeout_seconds)[-1]

    def replicas(self) -> int:
        """Return how many indexers the Deployment asks for."""
        return int(self.kube.get(APPS, "deployments", DEPLOYMENT)["spec"]["replicas"])

    def wait_replicas(self, is_enough: Callable[[int], bool], timeout_seconds: float = 30.0) -> int:
        """Wait until the Deployment asks for as many."""
        return wait_until(self.replicas, is_enough, timeout_seconds)


def _build_container(port: int) -> dict[str, Any]:
    return {"name": "indexer", "image": "none", "ports": [{"name": "management", "containerPort": port}]}


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
