"""What `helm install` prints: the next command for each way to be stuck, with names that exist, and no false alarm."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
import yaml

from tests.chart.cases import SWITCHES, merge
from tests.chart.rendering import CHART, NAMESPACE, RELEASE, ROOT, Case, Values, helm, render

DEFAULTS: Values = {}
EXTERNAL = merge(SWITCHES["redis"]["tls"], SWITCHES["elasticsearch"]["basic"])
SCALED = merge(SWITCHES["scaling"]["keda"], {"fullnameOverride": "another"})
WAYS = {
    "defaults": DEFAULTS,
    "external stores": EXTERNAL,
    "keda": SCALED,
    "hpa": SWITCHES["scaling"]["hpa-cpu"],
    "operator": SWITCHES["scaling"]["operator"],
}
KINDS = {
    "deployment": "Deployment",
    "statefulset": "StatefulSet",
    "service": "Service",
    "scaledobject": "ScaledObject",
    "hpa": "HorizontalPodAutoscaler",
    "describe hitcounter": "HitCounter",
}
WARNINGS = "Before production use"


def read_notes(values: Values, *files: str) -> str:
    """Return what Helm would print after an installation with these values."""
    command = [helm(4), "install", RELEASE, str(CHART), "--namespace", NAMESPACE, "--dry-run=client"]
    for file in files:
        command += ["--values", str(ROOT / file)]
    answer = subprocess.run(
        [*command, "--values", "-"], input=json.dumps(values), capture_output=True, text=True, check=True
    )
    return answer.stdout.partition("NOTES:")[2]


@pytest.mark.parametrize("values", WAYS.values(), ids=list(WAYS))
def test_commands_name_objects_that_exist(values: Values) -> None:
    objects = {(item["kind"], item["metadata"]["name"]) for item in render(Case("", values)).objects}
    assert f"logs {render(Case('', values)).one('Pod', 'test')['metadata']['name']}" in read_notes(values)
    named = re.findall(rf"\b({'|'.join(KINDS)})[/ ]([a-z0-9-]+)", read_notes(values))
    assert named
    assert {(KINDS[kind], name) for kind, name in named} <= objects


@pytest.mark.parametrize(
    ("values", "ways"),
    [
        (DEFAULTS, ["ImagePullBackOff", "Pending", "not ready", "never counted", "503", "Elasticsearch not ready"]),
        (EXTERNAL, ["CreateContainerConfigError", "Secrets"]),
        (SCALED, ["the indexers do not scale"]),
        (WAYS["hpa"], ["the indexers do not scale"]),
        (WAYS["operator"], ["the indexers do not scale"]),
    ],
    ids=["defaults", "external stores", "keda", "hpa", "operator"],
)
def test_each_way_to_be_stuck_has_its_command(values: Values, ways: list[str]) -> None:
    notes = read_notes(values)
    assert [way for way in ways if way not in notes] == []


def test_what_is_not_there_is_not_spoken_of() -> None:
    notes = read_notes(EXTERNAL)
    assert "statefulset" not in notes
    assert "do not scale" not in notes
    assert "CreateContainerConfigError" not in read_notes(DEFAULTS)


def test_secrets_that_production_waits_for_are_named() -> None:
    notes = read_notes(DEFAULTS, "charts/hitcounter/values-production.yaml")
    assert "(hitcounter-redis, hitcounter-elasticsearch, hitcounter-elasticsearch-tls)" in notes


def test_images_of_the_release_are_those_to_load() -> None:
    for values in (DEFAULTS, WAYS["operator"]):
        images = [item["image"] for pod in render(Case("", values)).pods() for item in pod.spec["containers"]]
        ours = [image for image in dict.fromkeys(images) if image.startswith("hitcounter-")]
        assert len(ours) == 2 + (values is not DEFAULTS)
        (line,) = re.findall(r"kind load docker-image --name hitcounter (.+)\n", read_notes(values))
        assert sorted(line.split()) == sorted(ours)


@pytest.mark.parametrize(
    ("values", "warning"),
    [
        ({}, "Redis requires no password. Only the NetworkPolicy"),
        ({"networkPolicy": {"enabled": False}}, "every pod of the cluster can access it"),
        ({"redis": {"persistence": {"enabled": False}}}, "accepted hits that are not indexed yet are lost"),
        ({"elasticsearch": {"persistence": {"enabled": False}}}, "if its pod is deleted, all counts are lost"),
        ({}, "Elasticsearch has one node"),
        ({}, "Elasticsearch requires no password"),
        ({"redis": {"appendfsync": "everysec"}}, "the last second of accepted hits"),
    ],
)
def test_what_is_unsafe_is_warned_of(values: Values, warning: str) -> None:
    assert warning in read_notes(values).partition(WARNINGS)[2]


def test_production_has_nothing_to_be_warned_of() -> None:
    assert WARNINGS not in read_notes(DEFAULTS, "charts/hitcounter/values-production.yaml")


def test_notes_say_what_uninstalling_leaves() -> None:
    assert "of redis and elasticsearch" in read_notes(DEFAULTS)
    assert "delete pvc" not in read_notes(EXTERNAL)
    crd = yaml.safe_load((CHART / "crds/hitcounters.yaml").read_text())["metadata"]["name"]
    assert f"delete crd {crd}" in read_notes(DEFAULTS)
    assert "delete lease hc-hitcounter-operator" in read_notes({"operator": {"enabled": True}})
    assert "delete lease" not in read_notes(DEFAULTS)
