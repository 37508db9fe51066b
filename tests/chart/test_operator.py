"""What the operator may do in Kubernetes is what docs/operator.md says that it does, and no more."""

from __future__ import annotations

import re
from collections.abc import Iterator

import yaml

from tests.chart.rendering import CHART, ROOT, Case, Rendering, render

Right = tuple[str, str, frozenset[str], bool]
"""API group, resource, verbs, and whether only those of certain names."""


def rights_in_the_docs() -> Iterator[Right]:
    _, section = (ROOT / "docs/operator.md").read_text().split("## Permissions in Kubernetes")
    for group, what, verbs in re.findall(r"^\|(.*) \| (`.+) \| ([a-z, ]+) \| .+ \|$", section, re.MULTILINE):
        resource = what.split("`")[1]
        yield group.strip("` "), resource, frozenset(verbs.split(", ")), ", only " in what


def rights_of(rendering: Rendering) -> Iterator[Right]:
    (role,) = rendering.all("Role")
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                yield group, resource, frozenset(rule["verbs"]), "resourceNames" in rule


def test_rights_are_those_of_the_docs() -> None:
    documented = set(rights_in_the_docs())
    assert documented
    assert set(rights_of(render(Case("", {"operator": {"enabled": True}})))) == documented


def test_rights_are_for_objects_of_this_release(renderings: list[Rendering]) -> None:
    for rendering in renderings:
        for role in rendering.all("Role"):
            (hitcounter,) = rendering.all("HitCounter")
            name = hitcounter["metadata"]["name"]
            names = {
                resource: rule["resourceNames"]
                for rule in role["rules"]
                for resource in rule["resources"]
                if "resourceNames" in rule
            }
            indexers = [rendering.one("Deployment", "indexer")["metadata"]["name"]]
            assert names == {
                "hitcounters/status": [name],
                "deployments": indexers,
                "deployments/scale": indexers,
                "leases": [f"{name}-operator"],
            }


def test_nobody_may_do_everything_and_nothing_is_allowed_beyond_the_namespace(renderings: list[Rendering]) -> None:
    for rendering in renderings:
        assert not rendering.all("ClusterRole") + rendering.all("ClusterRoleBinding")
        for role in rendering.all("Role"):
            assert "*" not in str(role["rules"])


def test_rights_go_to_the_account_of_the_operators_pod(renderings: list[Rendering]) -> None:
    for rendering in renderings:
        for binding in rendering.all("RoleBinding"):
            (role,) = rendering.all("Role")
            (subject,) = binding["subjects"]
            assert binding["roleRef"]["name"] == role["metadata"]["name"]
            assert subject["name"] == rendering.pod("operator").spec["serviceAccountName"]


def test_kind_is_named_once_more_for_artifact_hub() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    (named,) = yaml.safe_load(chart["annotations"]["artifacthub.io/crds"])
    crd = yaml.safe_load((CHART / "crds/hitcounters.yaml").read_text())
    (version,) = crd["spec"]["versions"]
    assert (named["kind"], named["name"]) == (crd["spec"]["names"]["kind"], crd["metadata"]["name"])
    assert named["version"] == version["name"]
