"""The parts of the OpenAPI document that FastAPI cannot derive: the problems, and the bodies of the raw endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from hitcounter_api.problems import MEDIA_TYPE, Kind
from hitcounter_api.schemas import Hit, ProblemDetails

_REF_TEMPLATE: Final = "#/components/schemas/{model}"
_DESCRIBED_BY_HAND: Final[tuple[type[BaseModel], ...]] = (Hit, ProblemDetails)
_HEADERS: Final[Mapping[int, Mapping[str, Any]]] = {
    401: {"WWW-Authenticate": {"description": "RFC 6750: what is wrong with the key.", "schema": {"type": "string"}}},
    403: {"WWW-Authenticate": {"description": "RFC 6750: the scope that is needed.", "schema": {"type": "string"}}},
    415: {"Accept-Encoding": {"description": "What is accepted.", "schema": {"type": "string", "enum": ["identity"]}}},
    503: {
        "Retry-After": {
            "description": "Seconds to wait before a retry.",
            "schema": {"type": "integer", "minimum": 1},
        }
    },
}


def schema_ref(model: type[BaseModel]) -> dict[str, str]:
    """Return a reference to the schema of the model, which add_schemas adds to the document."""
    return {"$ref": _REF_TEMPLATE.format(model=model.__name__)}


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the description of the problems with these statuses, with an example of each kind."""
    return {status: _describe(status) for status in statuses}


def add_schemas(document: dict[str, Any]) -> None:
    """Add the schemas to the document that FastAPI does not know."""
    _, definitions = models_json_schema(
        [(model, "validation") for model in _DESCRIBED_BY_HAND], ref_template=_REF_TEMPLATE
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(definitions["$defs"])
    document["components"]["schemas"] = dict(sorted(schemas.items()))


def _describe(status: int) -> dict[str, Any]:
    kinds = [kind for kind in Kind if kind.status == status]
    content: Mapping[str, Any] = {
        "schema": schema_ref(ProblemDetails),
        "examples": {
            kind.slug: {
                "summary": kind.title,
                "value": {"type": kind.type, "title": kind.title, "status": status, "detail": "…"},
            }
            for kind in kinds
        },
    }
    description = {"description": "; ".join(kind.title for kind in kinds) + ".", "content": {MEDIA_TYPE: content}}
    return {**description, "headers": _HEADERS[status]} if status in _HEADERS else description
