"""Writes the CustomResourceDefinition of the operator into the chart.

    .venv/bin/python tools/crd.py [FILE]

The chart knows no Python, so the CRD is a file. A test fails if the file differs from the models.

Pydantic generates JSON Schema. Kubernetes requires a structural schema: no references, no alternatives, and a default
for each part that contains defaults.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from hitcounter_operator.resource import GROUP, KIND, PLURAL, RULES, VERSION, Spec, Status

CRD: Final = Path(__file__).parents[1] / "charts/hitcounter/crds/hitcounters.yaml"
HEAD: Final = """\
# Written by tools/crd.py (`make generate`) from the models in services/operator. Helm installs it with the first
# release. It never updates or deletes it afterwards.
"""


_DROPPED: Final = ("title", "additionalProperties")

_COLUMNS: Final = (
    ("READY", "string", '.status.conditions[?(@.type=="Ready")].status', "Status of the condition Ready.", 0),
    ("BACKLOG", "integer", ".status.backlog", "Hits accepted and not settled.", 0),
    ("OLDEST", "string", ".status.oldestAge", "Age of the oldest entry that is not settled.", 0),
    ("IN/S", "integer", ".status.arrivalPerSecond", "Hits accepted per second.", 0),
    ("OUT/S", "integer", ".status.settledPerSecond", "Hits settled per second.", 0),
    ("REPLICAS", "integer", ".status.replicas", "Number of indexers that the Deployment requests.", 0),
    ("DESIRED", "integer", ".status.desiredReplicas", "Number of indexers by the last decision.", 0),
    ("MODE", "string", ".spec.scaling.mode", "Scaling mode.", 0),
    ("DEAD", "integer", ".status.deadLetters", "Hits that could not be indexed.", 1),
    ("KEPT", "integer", ".status.retentionDays", "Number of days that are kept.", 1),
    ("REASON", "string", '.status.conditions[?(@.type=="Ready")].reason', "Reason of the condition Ready.", 1),
    ("AGE", "date", ".metadata.creationTimestamp", "Time since the creation of this resource.", 0),
)
"""Name, type, path, description and priority. `kubectl get -o wide` also shows those with priority 1."""


def main(arguments: list[str]) -> None:
    """Write the CRD into the given file, by default the one of the chart."""
    file = Path(arguments[0]) if arguments else CRD
    file.write_text(HEAD + yaml.safe_dump(build_crd(), sort_keys=False, width=120, allow_unicode=True))


def build_crd() -> dict[str, Any]:
    """Return the CustomResourceDefinition."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["hc"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_build_column(*column) for column in _COLUMNS],
                    "schema": {"openAPIV3Schema": _build_schema()},
                }
            ],
        },
    }


def _build_column(name: str, kind: str, path: str, meaning: str, priority: int) -> dict[str, Any]:
    return {"name": name, "type": kind, "jsonPath": path, "description": meaning, "priority": priority}


def _build_schema() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "An installation of hitcounter: its queue, its indices and its indexers. The operator whose "
        "HITCOUNTER_OPERATOR__NAME is the name of this resource manages it.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": _build_part(Spec.model_json_schema()),
            "status": _build_part(Status.model_json_schema(mode="serialization")),
        },
    }


def _build_part(document: Mapping[str, Any]) -> dict[str, Any]:
    return _convert(document, document.get("$defs", {}))


def _convert(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Return one node of a structural schema, without the keywords that Kubernetes rejects."""
    schema = _resolve(schema, definitions)
    rules = RULES.get(schema.get("title", ""))
    kept = {name: value for name, value in schema.items() if name not in (*_DROPPED, "$defs", "properties", "items")}
    if "default" in kept and _is_filled_in(kept):
        del kept["default"]
    if isinstance(kept.get("default"), Mapping):
        # Kubernetes validates a default before it fills in the nested defaults, so the default must list them all.
        kept["default"] = {name: value for name, value in kept["default"].items() if value is not None}
    if "properties" in schema:
        kept["properties"] = {name: _convert(one, definitions) for name, one in schema["properties"].items()}
    if "items" in schema:
        kept["items"] = _convert(schema["items"], definitions)
    if rules:
        kept["x-kubernetes-validations"] = [{"rule": rule, "message": message} for rule, message in rules]
    return kept


def _is_filled_in(schema: Mapping[str, Any]) -> bool:
    """Return True if the default is empty."""
    return schema["default"] is None or schema["default"] == []


def _resolve(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema with its references resolved; of alternatives, the one that is not null."""
    resolved = dict(schema)
    if "anyOf" in resolved:
        (variant,) = (one for one in resolved.pop("anyOf") if one.get("type") != "null")
        resolved = {**variant, **resolved}
    if "$ref" in resolved:
        target = definitions[resolved.pop("$ref").rpartition("/")[2]]
        resolved = {**_resolve(target, definitions), **resolved}
    return resolved


if __name__ == "__main__":
    main(sys.argv[1:])
