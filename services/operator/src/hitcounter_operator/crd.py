"""The CustomResourceDefinition, built from the models of resource.py. Pure; `make generate` writes it into the chart.

What pydantic makes of a model is JSON Schema; Kubernetes wants a structural one: nothing referred to, no alternatives,
and a default for each part that has any in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hitcounter_operator.resource import GROUP, KIND, PLURAL, RULES, VERSION, Spec, Status

_DROPPED: Final = ("title", "additionalProperties")

_COLUMNS: Final = (
    ("READY", "string", '.status.conditions[?(@.type=="Ready")].status', "Whether all is well.", 0),
    ("BACKLOG", "integer", ".status.backlog", "Hits accepted and not settled.", 0),
    ("OLDEST", "string", ".status.oldestAge", "Age of the oldest entry that is not settled.", 0),
    ("IN/S", "integer", ".status.arrivalPerSecond", "Hits accepted per second.", 0),
    ("OUT/S", "integer", ".status.settledPerSecond", "Hits settled per second.", 0),
    ("REPLICAS", "integer", ".status.replicas", "Indexers that the Deployment asks for.", 0),
    ("DESIRED", "integer", ".status.desiredReplicas", "Indexers that there should be.", 0),
    ("MODE", "string", ".spec.scaling.mode", "Who scales the indexers.", 0),
    ("DEAD", "integer", ".status.deadLetters", "Hits that could never be indexed.", 1),
    ("KEPT", "integer", ".status.retentionDays", "Whole days that are kept.", 1),
    ("REASON", "string", '.status.conditions[?(@.type=="Ready")].reason', "Why it is ready, or is not.", 1),
    ("AGE", "date", ".metadata.creationTimestamp", "Since when it is there.", 0),
)
"""Name, type, path, meaning and priority; those of priority 1 are shown by `kubectl get -o wide`."""


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
        "description": "An installation of the hit counter: its queue, its indices and its indexers. The operator "
        "whose HITCOUNTER_OPERATOR__NAME is the name of this resource looks after it.",
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
    """Return one node of a structural schema, without what Kubernetes does not take."""
    schema = _resolve(schema, definitions)
    rules = RULES.get(schema.get("title", ""))
    kept = {name: value for name, value in schema.items() if name not in (*_DROPPED, "$defs", "properties", "items")}
    if "default" in kept and _is_filled_in(kept):
        del kept["default"]
    if isinstance(kept.get("default"), Mapping):
        # Validations are tried on a default before the defaults of its parts are filled in, so it names them all.
        kept["default"] = {name: value for name, value in kept["default"].items() if value is not None}
    if "properties" in schema:
        kept["properties"] = {name: _convert(one, definitions) for name, one in schema["properties"].items()}
    if "items" in schema:
        kept["items"] = _convert(schema["items"], definitions)
    if rules:
        kept["x-kubernetes-validations"] = [{"rule": rule, "message": message} for rule, message in rules]
    return kept


def _is_filled_in(schema: Mapping[str, Any]) -> bool:
    """Tell whether the default says no more than that there is nothing."""
    return schema["default"] is None or schema["default"] == []


def _resolve(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema with what it refers to in it; of alternatives, the one that is not null."""
    resolved = dict(schema)
    if "anyOf" in resolved:
        (variant,) = (one for one in resolved.pop("anyOf") if one.get("type") != "null")
        resolved = {**variant, **resolved}
    if "$ref" in resolved:
        target = definitions[resolved.pop("$ref").rpartition("/")[2]]
        resolved = {**_resolve(target, definitions), **resolved}
    return resolved
