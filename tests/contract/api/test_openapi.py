"""The OpenAPI document: complete, committed, and true."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import schemathesis
from hitcounter_api.routes.reference import render
from hypothesis import HealthCheck, given, settings

from tests.contract.api.server import Server, read_openapi

CONFIG = schemathesis.Config.from_dict(
    {
        "checks": {
            # A schema cannot say that a key needs a time, or that a time must lie around now.
            "positive_data_acceptance": {"enabled": False},
            "negative_data_rejection": {"expected-statuses": [400, 408, 413, 422]},
        }
    }
)
SNAPSHOT = Path(__file__).parents[3] / "docs/openapi.json"


@pytest.fixture(scope="module")
def document(running_server: Server) -> Any:
    return running_server.ask("GET", "/openapi.json").json


def operations(document: Any) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def test_the_committed_document_is_fresh(server: Server) -> None:
    assert SNAPSHOT.read_text() == read_openapi(server), "run: python -m tests.contract.api.server > docs/openapi.json"


def test_every_call_of_the_api_is_described(document: Any) -> None:
    assert {(method, path): operation["operationId"] for method, path, operation in operations(document)} == {
        ("POST", "/analytics"): "trackHit",
        ("POST", "/analytics/batch"): "trackBatch",
        ("GET", "/analytics/{id}"): "readCounts",
        ("GET", "/history/{id}"): "readHistory",
        ("GET", "/status"): "readStatus",
    }


def test_every_failure_is_described_as_a_problem_with_examples(document: Any) -> None:
    for _, _, operation in operations(document):
        failures = {status: answer for status, answer in operation["responses"].items() if status >= "400"}
        assert {"500", "503"} <= failures.keys()
        assert all(answer["content"]["application/problem+json"]["examples"] for answer in failures.values())
        assert "Retry-After" in failures["503"]["headers"]


@pytest.mark.parametrize("field", ["timestamp", "weight", "key"])
def test_null_is_as_wrong_by_the_document_as_by_the_rules(server: Server, document: Any, field: str) -> None:
    schema = document["components"]["schemas"]["Hit"]["properties"][field]
    assert schema["type"] in ("string", "integer")
    assert "anyOf" not in schema
    assert schema.get("default", "none") is not None
    assert server.track(orjson.dumps({"id": "a", field: None})).json["field"] == field


def test_the_document_is_shown_to_people(server: Server, document: Any) -> None:
    reply = server.ask("GET", "/docs")
    assert (reply.status, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
    page = reply.body.decode()
    for method, path, operation in operations(document):
        assert f'<section id="{operation["operationId"]}">' in page
        assert f"<code>{method} {path}</code>" in page
        assert all(f"<td>{status}</td>" in page for status in operation["responses"])
    for name, schema in document["components"]["schemas"].items():
        assert f'<section id="{name}">' in page
        assert all(f"<code>{field}</code>" in page for field in schema["properties"])


def test_the_shown_document_needs_no_other_host_no_script_and_no_path_of_its_own(server: Server) -> None:
    reply = server.ask("GET", "/docs")
    page = reply.body.decode()
    sections = set(re.findall(r'<section id="([^"]+)">', page))
    addresses = set(re.findall(r'(?:href|src|action)="([^"]*)"', page))
    assert addresses == {"openapi.json", "data:,"} | {f"#{name}" for name in sections}
    assert "<script" not in page
    assert "@import" not in page
    policy = reply.headers["content-security-policy"]
    assert re.fullmatch(
        r"default-src 'none'; img-src data:; style-src 'sha256-[^']+'; base-uri 'none'; form-action 'none'; "
        r"frame-ancestors 'none'",
        policy,
    )


def test_nothing_in_a_document_is_markup_where_it_is_shown() -> None:
    text = "<b>&\"'`<i>`$title"
    operation = {
        "operationId": text,
        "summary": text,
        "description": text,
        "parameters": [{"name": text, "in": text, "schema": {"enum": [text]}}],
        "requestBody": {"content": {text: {"schema": {"type": text}, "example": {text: text}}}},
        "responses": {text: {"description": text, "headers": {text: {}}}},
    }
    document = {
        "info": {"title": text, "version": text, "description": text},
        "paths": {text: {"post": operation}},
        "components": {"schemas": {text: {"description": text, "properties": {text: {"format": text}}}}},
    }
    page = render(document)
    assert "<b>" not in page
    assert "<i>" not in page


@pytest.mark.parametrize("operation_id", ["trackHit", "trackBatch", "readCounts", "readHistory", "readStatus"])
def test_the_api_does_what_its_document_says(server: Server, operation_id: str) -> None:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json", config=CONFIG)
    operation = schema.find_operation_by_id(operation_id)

    @settings(suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy() | operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE))
    def call(case: schemathesis.Case[Any]) -> None:
        case.call_and_validate()

    call()
