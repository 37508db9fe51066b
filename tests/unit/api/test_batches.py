"""A batch body: a JSON array or NDJSON, all of its hits or none."""

from __future__ import annotations

import orjson
import pytest
from hitcounter.hits import BATCH_MAX_HITS
from hitcounter_api.batches import read_hits
from hitcounter_api.problems import Kind, Problem
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.api.fakes import NOW_MS

ids = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20), min_size=1, max_size=20)


def problem_of_batch(body: bytes) -> Problem:
    with pytest.raises(Problem) as caught:
        read_hits(body, NOW_MS)
    return caught.value


@given(ids, st.booleans())
def test_an_array_and_its_lines_are_the_same_hits(ids: list[str], ends_with_newline: bool) -> None:
    items = [{"id": id_, "weight": place + 1} for place, id_ in enumerate(ids)]
    lines = b"\n".join(map(orjson.dumps, items)) + b"\n" * ends_with_newline
    hits = read_hits(orjson.dumps(items), NOW_MS)
    assert hits == read_hits(lines, NOW_MS)
    assert [hit.id for hit in hits] == ids


def test_blank_lines_and_carriage_returns_are_left_out() -> None:
    assert [hit.id for hit in read_hits(b'\r\n{"id":"a"}\r\n\r\n  \n{"id":"b"}', NOW_MS)] == ["a", "b"]


def test_every_bad_hit_is_listed_by_its_place() -> None:
    problem = problem_of_batch(b'[{"id":"a"}, {"id":""}, 7, {"id":"b","weight":0}, {"id":"c","colour":"red"}]')
    assert problem.kind is Kind.INVALID_BATCH
    errors = problem.members["errors"]
    assert isinstance(errors, list)
    assert [(error["index"], error.get("field"), error.get("value")) for error in errors] == [
        (1, "id", ""),
        (2, None, 7),
        (3, "weight", 0),
        (4, "colour", "red"),
    ]
    assert problem.detail.startswith("4 of 5 hits")


@pytest.mark.parametrize("body", [b"", b"  \n ", b"hello", b"[1", b'{"id":"a"}\n{"id"', b"\xff", b'[{"id":"\xff"}]'])
def test_what_is_not_json_is_said_to_be_not_json(body: bytes) -> None:
    assert problem_of_batch(body).kind is Kind.NOT_JSON


def test_a_bad_line_is_named_by_its_number() -> None:
    assert "line 3 " in problem_of_batch(b'{"id":"a"}\n\n{"id"\n').detail


def test_an_empty_array_has_nothing_to_take() -> None:
    assert problem_of_batch(b"[]").kind is Kind.INVALID_BATCH


def test_ten_thousand_hits_are_taken_and_one_more_is_too_large() -> None:
    assert len(read_hits(orjson.dumps([{"id": "a"}] * BATCH_MAX_HITS), NOW_MS)) == BATCH_MAX_HITS
    problem = problem_of_batch(orjson.dumps([{"id": "a"}] * (BATCH_MAX_HITS + 1)))
    assert problem.kind is Kind.TOO_LARGE
    assert problem.members == {"value": BATCH_MAX_HITS + 1, "limit": BATCH_MAX_HITS}
