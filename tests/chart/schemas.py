"""The schemas that rendered objects are held against: Kubernetes' own, those beside this file, and our own kind's.

Strict: a field that no schema names is an error, as it is for `kubectl apply --validate=strict`.
"""

from __future__ import annotations

import functools
import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from tests.chart.rendering import CHART, Manifest
from tools.chart import make_strict

FOREIGN = Path(__file__).parent / "schemas"
KUBERNETES = resources.files("kubernetes_validate") / "kubernetes-json-schema"


def find_faults(item: Manifest, kubernetes: str) -> list[str]:
    """Return what the schema of its kind says against an object, one sentence each."""
    group, _, version = item["apiVersion"].rpartition("/")
    validator = _validator(item["kind"].lower(), group.split(".")[0], version, kubernetes)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(item)]


@functools.cache
def _validator(kind: str, group: str, version: str, kubernetes: str) -> Draft202012Validator:
    if (ours := CHART / "crds" / f"{kind}s.yaml").exists():
        (served,) = yaml.safe_load(ours.read_text())["spec"]["versions"]
        assert served["name"] == version
        return Draft202012Validator(make_strict(served["schema"]["openAPIV3Schema"]))
    foreign = FOREIGN / f"{kind}-{version}.json"
    if foreign.exists():
        return Draft202012Validator(json.loads(foreign.read_text()))
    name = "-".join(filter(None, [kind, group, version]))
    schema = _read(f"v{kubernetes}-local-strict", f"{name}.json")
    return Draft202012Validator(schema, registry=_definitions(kubernetes))


@functools.cache
def _definitions(kubernetes: str) -> Registry[Any]:
    definitions = _read(f"v{kubernetes}-local-strict", "_definitions.json")
    resource: Resource[Any] = Resource.from_contents(definitions, default_specification=DRAFT202012)
    empty: Registry[Any] = Registry()
    full: Registry[Any] = empty.with_resource("_definitions.json", resource)
    return full


def _read(folder: str, name: str) -> Any:
    return json.loads((KUBERNETES / folder / name).read_text())


def newest_kubernetes() -> str:
    """Return the newest version that there are schemas of."""
    versions = [match[1] for path in KUBERNETES.iterdir() if (match := re.match(r"v([\d.]+)-local-strict", path.name))]
    return max(versions, key=lambda version: tuple(map(int, version.split("."))))
