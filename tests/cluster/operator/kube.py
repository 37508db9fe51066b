"""A client of the API server for tests: plain requests, each answered by JSON."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from typing import Any

from hitcounter_cluster.api_server import ApiServer

MERGE = "application/merge-patch+json"


class Kube:
    """One namespace, with all rights."""

    def __init__(self, server: ApiServer, namespace: str) -> None:
        self.server = server
        self.namespace = namespace
        self._tls = ssl.create_default_context(cafile=str(server.plane.authority.own.certificate))

    def request(self, method: str, path: str, body: object = None, *, kind: str = "application/json") -> dict[str, Any]:
        """Ask, and return the answer; an empty object where there is nothing of that name."""
        request = urllib.request.Request(
            f"{self.server.url}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.server.plane.token}", "Content-Type": kind},
        )
        try:
            with urllib.request.urlopen(request, timeout=10, context=self._tls) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            if error.code == 404 and method in ("GET", "DELETE"):
                return {}
            raise AssertionError(f"{method} {path}: {error.code} {error.read().decode()}") from error

    def status_of(self, token: str) -> int:
        """Return the status with which the API server answers to a token."""
        url = f"{self.server.url}/api"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
        try:
            with urllib.request.urlopen(request, timeout=10, context=self._tls) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def path(self, api: str, kind: str, *rest: str) -> str:
        """Return the path of a kind in the namespace: `path("apis/apps/v1", "deployments", "indexer")`."""
        return "/".join([f"/{api}/namespaces/{self.namespace}/{kind}", *rest])

    def create(self, api: str, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        """Create an object."""
        return self.request("POST", self.path(api, kind), body)

    def get(self, api: str, kind: str, *rest: str) -> dict[str, Any]:
        """Return an object, or a list."""
        return self.request("GET", self.path(api, kind, *rest))

    def patch(self, api: str, kind: str, *rest: str, body: dict[str, Any]) -> dict[str, Any]:
        """Merge into an object, or into a part of it."""
        return self.request("PATCH", self.path(api, kind, *rest), body, kind=MERGE)

    def delete(self, api: str, kind: str, name: str) -> None:
        """Delete an object."""
        self.request("DELETE", self.path(api, kind, name))
