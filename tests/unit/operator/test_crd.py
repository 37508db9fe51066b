"""The definition is one that Kubernetes takes, and says the same as the code that reads the resources."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema
import kubernetes_validate  # type: ignore[import-untyped]  # has no types
import pytest
from hitcounter.scaling import Policy
from hitcounter_operator.resource import ConditionType, Mode, Spec, Status
from hitcounter_operator.status import read_status

from tools.crd import build_crd

VERSION = build_crd()["spec"]["versions"][0]
SCHEMA = VERSION["schema"]["openAPIV3Schema"]


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Return every part of a structural schema with its path."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")


def test_definition_is_valid_for_kubernetes() -> None:
    kubernetes_validate.validate(build_crd(), "1.34", strict=True)


@pytest.mark.parametrize(("path", "schema"), list(nodes(SCHEMA)), ids=[path for path, _ in nodes(SCHEMA)])
def test_every_part_of_the_schema_is_structural(path: str, schema: dict[str, Any]) -> None:
    assert "type" in schema
    assert not {"$ref", "$defs", "anyOf", "title", "const"} & schema.keys()


@pytest.mark.parametrize("part", ["spec", "status"])
def test_every_field_says_what_it_means(part: str) -> None:
    assert [path for path, schema in nodes(SCHEMA["properties"][part]) if "description" not in schema] == []


def test_every_column_shows_a_field_that_there_is() -> None:
    paths = {path.replace("[]", "") for path, _ in nodes(SCHEMA)}
    conditions = {f'.status.conditions[?(@.type=="{kind}")]' for kind in ConditionType}
    for column in VERSION["additionalPrinterColumns"]:
        parent, _, field = column["jsonPath"].rpartition(".")
        is_condition = parent in conditions and f".status.conditions.{field}" in paths
        assert is_condition or column["jsonPath"] in paths | {".metadata.creationTimestamp"}


def test_status_with_a_condition_of_a_type_that_this_version_does_not_know_is_valid() -> None:
    condition = {
        "type": "RollupsActive",
        "status": "True",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-11-24T08:00:00Z",
        "reason": "AllWell",
        "message": "",
    }
    jsonschema.validate({"conditions": [condition]}, SCHEMA["properties"]["status"])
    assert read_status({"backlog": 5, "conditions": [condition]}).backlog == 5


def test_columns_are_those_of_a_dashboard() -> None:
    names = [column["name"] for column in VERSION["additionalPrinterColumns"] if column["priority"] == 0]
    assert names == ["READY", "BACKLOG", "OLDEST", "IN/S", "OUT/S", "REPLICAS", "DESIRED", "MODE", "AGE"]


def test_smallest_resource_names_the_deployment_and_nothing_else() -> None:
    spec = {"indexer": {"deployment": "hitcounter-indexer"}}
    jsonschema.validate(spec, SCHEMA["properties"]["spec"])
    assert Spec.model_validate(spec).scaling.mode is Mode.OBSERVE


def test_defaults_of_the_resource_are_those_of_the_policy() -> None:
    scaling = Spec.model_validate({"indexer": {"deployment": "indexer"}}).scaling
    policy = Policy()
    assert {name: getattr(scaling, name) for name in Policy.__dataclass_fields__} == {
        name: getattr(policy, name) for name in Policy.__dataclass_fields__
    }


def test_status_lists_every_field_so_that_none_is_pruned() -> None:
    listed = SCHEMA["properties"]["status"]["properties"].keys()
    assert listed == {field.alias for field in Status.model_fields.values()}
