"""What a failed answer says, in one bounded line."""

from __future__ import annotations

from typing import Any

import pytest
from hitcounter.reasons import PART_MAX_CHARACTERS, describe_answer, find_cause, find_unsupported

ALIAS_TAKEN: Any = {
    "error": {
        "root_cause": [{"type": "illegal_argument_exception", "reason": "template is invalid"}],
        "type": "illegal_argument_exception",
        "reason": "template is invalid",
        "caused_by": {
            "type": "illegal_argument_exception",
            "reason": "composite template is invalid",
            "caused_by": {"type": "invalid_alias_name_exception", "reason": "an index exists with the alias's name"},
        },
    },
    "status": 400,
}


def test_innermost_cause_is_part_of_the_reason() -> None:
    assert describe_answer(400, ALIAS_TAKEN) == (
        "Elasticsearch answers 400",
        "illegal_argument_exception: template is invalid; "
        "caused by invalid_alias_name_exception: an index exists with the alias's name",
    )


def test_error_without_a_cause_has_none() -> None:
    assert find_cause({"type": "a", "reason": "b"}) is None
    assert describe_answer(503, {"error": {"type": "a", "reason": "b"}}) == ("Elasticsearch answers 503", "a: b")


def test_cause_that_says_the_same_is_said_once() -> None:
    error = {"type": "a", "reason": "b", "caused_by": {"type": "a", "reason": "b"}}
    assert describe_answer(503, {"error": error}) == ("Elasticsearch answers 503", "a: b")


@pytest.mark.parametrize(
    "body",
    [
        "<html>\r\n<head><title>502 Bad Gateway</title></head></html>",
        "<!DOCTYPE html><p>no</p>",
        b"\n<HTML><h1>Bad gateway</h1></HTML>",
    ],
)
def test_html_is_the_answer_of_a_server_that_is_not_elasticsearch(body: str | bytes) -> None:
    summary, detail = describe_answer(502, body)
    assert summary == "an HTTP server that is not Elasticsearch, such as a proxy, answered 502 with HTML"
    assert detail == ""


@pytest.mark.parametrize("body", ["no route\n to host", {"error": "no route to host"}, b"no route to host", None])
def test_any_other_answer_is_told_on_one_line(body: object) -> None:
    summary, detail = describe_answer(404, body)
    assert summary == "Elasticsearch answers 404"
    assert "\n" not in detail


def test_reason_is_bounded_whatever_was_answered() -> None:
    error: dict[str, object] = {"type": "a", "reason": "x" * 10_000}
    error["caused_by"] = {"type": "b", "reason": "y" * 10_000}
    assert len(describe_answer(400, {"error": error})[1]) < 2 * PART_MAX_CHARACTERS + 100
    assert len(describe_answer(500, "z" * 10_000)[1]) <= PART_MAX_CHARACTERS


@pytest.mark.parametrize(
    ("version", "what"),
    [
        ({"distribution": "opensearch", "number": "2.19.1"}, "the server is OpenSearch 2.19.1"),
        ({"distribution": "else", "number": "1.0"}, "the server is else 1.0"),
        ({"number": "7.17.29", "build_flavor": "default"}, "the server is Elasticsearch 7.17.29"),
        ({"number": "10.0.0"}, "the server is Elasticsearch 10.0.0"),
        ({"number": "8.0.0"}, None),
        ({"number": "9.3.2", "build_flavor": "default"}, None),
    ],
)
def test_server_that_is_not_supported_is_named_with_what_is(version: dict[str, str], what: str | None) -> None:
    expected = what and f"{what}, which is not supported; Elasticsearch 8.x and 9.x are supported"
    assert find_unsupported({"name": "es", "version": version}) == expected


@pytest.mark.parametrize("root", [None, "text", {}, {"version": "8"}, {"version": {"number": "unknown"}}])
def test_answer_that_names_no_version_names_no_server(root: object) -> None:
    assert find_unsupported(root) is None
