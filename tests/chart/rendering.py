"""Rendering the chart with the real Helm, and finding things in what comes out.

`render` is remembered for each set of values, so a test may ask as often as it likes.
"""

from __future__ import annotations

import functools
import json
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts/hitcounter"
RELEASE, NAMESPACE = "hc", "hitcounter"
KUBERNETES = "1.34.0"

Values = Mapping[str, Any]
Manifest = dict[str, Any]
"""One Kubernetes object, as YAML has it."""


@dataclass(frozen=True)
class Case:
    """One way to install the chart.

    Attributes:
        name: what distinguishes it from the others.
        values: over the defaults and the files.
        files: values files, from the root of the repository.
    """

    name: str
    values: Values = field(default_factory=dict)
    files: tuple[str, ...] = ()
    release: str = RELEASE


@dataclass(frozen=True)
class Rendering:
    """What Helm made of one case."""

    case: Case
    text: str
    objects: list[Manifest]

    def all(self, kind: str) -> list[Manifest]:
        """Return the objects of a kind."""
        return [item for item in self.objects if item["kind"] == kind]

    def one(self, kind: str, component: str) -> Manifest:
        """Return the only object of a kind that belongs to a component."""
        (found,) = [item for item in self.all(kind) if component_of(item) == component]
        return found

    def pods(self) -> list[Pod]:
        """Return every pod that this would start, by what starts it."""
        return [Pod(item, template) for item in self.objects if (template := find_pod(item)) is not None]

    def pod(self, component: str) -> Pod:
        """Return the pod of a component."""
        (found,) = [pod for pod in self.pods() if component_of(pod.template) == component]
        return found

    def environment(self, component: str) -> dict[str, str | None]:
        """Return the environment of a component's first container: values by name, None where a Secret has them."""
        container = self.pod(component).containers[0]
        names = [source["configMapRef"]["name"] for source in container.get("envFrom", []) if "configMapRef" in source]
        maps = [item["data"] for item in self.all("ConfigMap") if item["metadata"]["name"] in names]
        merged: dict[str, str | None] = {name: value for data in maps for name, value in data.items()}
        return merged | {item["name"]: item.get("value") for item in container.get("env", [])}


@dataclass(frozen=True)
class Pod:
    """A pod, and the object that starts it."""

    owner: Manifest
    template: Manifest

    @property
    def name(self) -> str:
        """Kind and name of its owner."""
        return describe(self.owner)

    @property
    def spec(self) -> Manifest:
        """Its specification."""
        spec: Manifest = self.template["spec"]
        return spec

    @property
    def labels(self) -> dict[str, str]:
        """Its labels."""
        labels: dict[str, str] = self.template["metadata"]["labels"]
        return labels

    @property
    def containers(self) -> list[Manifest]:
        """Its containers, those that run first at the end."""
        return [*self.spec["containers"], *self.spec.get("initContainers", [])]

    @property
    def runs_for_ever(self) -> bool:
        """Whether it serves until it is stopped."""
        return self.owner["kind"] in ("Deployment", "StatefulSet")


class RefusedError(Exception):
    """Helm refused the values, in its own words or in the chart's."""


@functools.cache
def helm(major: int) -> str:
    """Return the path of a real Helm; fails the test loudly where it is missing."""
    return find_tool(f"helm-{major}")


@functools.cache
def find_tool(name: str) -> str:
    """Return the path of a tool that tools/helm.sh fetches."""
    answer = subprocess.run([ROOT / "tools/helm.sh", "path", name], capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        pytest.fail(f"{name} is missing. To fetch it: tools/helm.sh", pytrace=False)
    return answer.stdout.strip()


def render(case: Case, major: int = 4) -> Rendering:
    """Render the chart.

    Raises:
        RefusedError: Helm or the chart refused the values.
    """
    return _render(json.dumps(case.values), case.name, case.files, case.release, major)


@functools.cache
def _render(values: str, name: str, files: tuple[str, ...], release: str, major: int) -> Rendering:
    text = run_helm(values, files, release, major)
    objects = [item for item in yaml.load_all(text, Loader=yaml.CSafeLoader) if item]
    return Rendering(Case(name, json.loads(values), files, release), text, objects)


def run_helm(values: str, files: tuple[str, ...] = (), release: str = RELEASE, major: int = 4) -> str:
    """Return what `helm template` prints for these values, given as JSON.

    Raises:
        RefusedError: Helm or the chart refused them.
    """
    command = [helm(major), "template", release, str(CHART), "--namespace", NAMESPACE, "--kube-version", KUBERNETES]
    for file in files:
        command += ["--values", str(ROOT / file)]
    answer = subprocess.run([*command, "--values", "-"], input=values, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise RefusedError(answer.stderr)
    return answer.stdout


def render_all(cases: list[Case], major: int = 4) -> list[Rendering]:
    """Render many cases, a few at a time."""
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda case: render(case, major), cases))


def find_pod(item: Manifest) -> Manifest | None:
    """Return the pod, or the template of the pods, of an object that has one."""
    match item["kind"]:
        case "Pod":
            return item
        case "Deployment" | "StatefulSet":
            template: Manifest = item["spec"]["template"]
            return template
    return None


def component_of(item: Manifest) -> str:
    """Return the component that an object, or a pod template, belongs to."""
    component: str = item["metadata"]["labels"]["app.kubernetes.io/component"]
    return component


def describe(item: Manifest) -> str:
    """Return kind and name."""
    return f"{item['kind']} {item['metadata']['name']}"


def selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Say whether a selector picks something with these labels."""
    return bool(selector) and selector.items() <= labels.items()


def walk(value: Any) -> Iterator[Manifest]:
    """Yield every mapping inside of a value, itself included."""
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from walk(item)
    elif isinstance(value, list):
        for item in value:
            yield from walk(item)
