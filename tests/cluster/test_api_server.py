"""The API server alone is a real one: it knows custom resources, and keeps its own promises about leaving."""

from __future__ import annotations

import json

import yaml
from hitcounter_cluster.api_server import ApiServer

WISH = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "wishes.example.org"},
    "spec": {
        "group": "example.org",
        "names": {"kind": "Wish", "plural": "wishes"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}


def test_api_server_tells_its_version(api_server: ApiServer) -> None:
    answer = json.loads(api_server.kubectl("version", "--output=json"))
    assert answer["serverVersion"]["gitVersion"] == answer["clientVersion"]["gitVersion"] == api_server.version


def test_api_server_takes_a_custom_resource(api_server: ApiServer) -> None:
    api_server.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(WISH))
    api_server.kubectl("wait", "--for=condition=Established", "crd/wishes.example.org", "--timeout=30s")
    wish = {"apiVersion": "example.org/v1", "kind": "Wish", "metadata": {"name": "peace"}}
    api_server.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(wish))
    assert "peace" in api_server.kubectl("get", "wishes", "--output=name")
