"""The meaning of a response: the table of outcomes, with a fixed list of errors that reject a document."""

from __future__ import annotations

import pytest
from hitcounter_indexer.outcomes import INDEXED, ItemOutcome, ItemResult, read_item
from hypothesis import given
from hypothesis import strategies as st


def answer(status: int, type_: str = "some_exception", reason: str = "because") -> dict[str, object]:
    return {"status": status, "error": {"type": type_, "reason": reason}}


@pytest.mark.parametrize("status", [200, 201])
def test_success_is_indexed(status: int) -> None:
    assert read_item({"status": status}) == INDEXED


@pytest.mark.parametrize(
    ("status", "type_", "outcome"),
    [
        (409, "version_conflict_engine_exception", ItemOutcome.DUPLICATE),
        (429, "es_rejected_execution_exception", ItemOutcome.RETRY),
        (429, "circuit_breaking_exception", ItemOutcome.RETRY),
        (429, "cluster_block_exception", ItemOutcome.RETRY),  # the disk is over its flood stage
        (503, "unavailable_shards_exception", ItemOutcome.RETRY),
        (400, "document_parsing_exception", ItemOutcome.REJECT),
        (400, "mapper_parsing_exception", ItemOutcome.REJECT),
        (400, "strict_dynamic_mapping_exception", ItemOutcome.HOLD),
        (400, "illegal_argument_exception", ItemOutcome.HOLD),
        (400, "index_closed_exception", ItemOutcome.HOLD),
        (400, "validation_exception", ItemOutcome.HOLD),  # the limit of shards
        (401, "security_exception", ItemOutcome.HOLD),
        (403, "security_exception", ItemOutcome.HOLD),
        (403, "cluster_block_exception", ItemOutcome.HOLD),  # the index is read-only
        (404, "index_not_found_exception", ItemOutcome.HOLD),
        (500, "exception", ItemOutcome.HOLD),
        (502, "", ItemOutcome.HOLD),
    ],
)
def test_each_answer_has_its_outcome(status: int, type_: str, outcome: ItemOutcome) -> None:
    assert read_item(answer(status, type_)).outcome is outcome


@given(st.integers(300, 599), st.text(max_size=40))
def test_nothing_outside_of_the_closed_list_rejects_a_document(status: int, type_: str) -> None:
    outcome = read_item(answer(status, type_)).outcome
    if outcome is ItemOutcome.REJECT:
        assert (status, type_) in {(400, "document_parsing_exception"), (400, "mapper_parsing_exception")}
    assert (outcome is ItemOutcome.DUPLICATE) == (status == 409)
    assert outcome is not ItemOutcome.INDEXED


@pytest.mark.parametrize("status", [401, 403, 404, 500, 503])
def test_documents_own_fault_is_one_only_with_status_400(status: int) -> None:
    assert read_item(answer(status, "document_parsing_exception")).outcome is not ItemOutcome.REJECT


@pytest.mark.parametrize(
    "item",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"status": "201"}, id="a status that is no number"),
        pytest.param({"status": None, "error": {}}, id="no status"),
        pytest.param({"status": 400}, id="no error"),
        pytest.param({"status": 400, "error": "text"}, id="an error of another shape"),
        pytest.param({"status": 400, "error": {"type": None}}, id="an error without a type"),
        pytest.param({"status": 100}, id="no final status"),
    ],
)
def test_answer_that_makes_no_sense_is_kept_and_tried_again(item: dict[str, object]) -> None:
    assert read_item(item).outcome is ItemOutcome.HOLD


def test_reason_and_detail_are_told_and_the_detail_is_cut() -> None:
    result = read_item(answer(400, "mapper_parsing_exception", "x" * 10_000))
    assert result.reason == "mapper_parsing_exception"
    assert result.detail == "x" * 300


def test_answer_without_a_reason_is_named_by_its_status() -> None:
    assert read_item({"status": 418}).reason == "status_418"


def test_only_a_missing_index_has_to_be_made_anew() -> None:
    assert read_item(answer(404, "index_not_found_exception")).is_index_missing
    assert not read_item(answer(404, "alias_missing")).is_index_missing
    assert not ItemResult(ItemOutcome.RETRY).is_index_missing
