"""Problems say what is wrong, with what, and what the limit is."""

from __future__ import annotations

import orjson
import pytest
from elasticsearch import ApiError, ConnectionTimeout
from elasticsearch import ConnectionError as ElasticConnectionError
from hitcounter.elastic import translate_elasticsearch_errors
from hitcounter.errors import DurabilityUnavailable, IndexUnavailable, InvalidHit, Outcome, StreamUnavailable
from hitcounter.hits import Hit
from hitcounter.redis_client import build_stream_unavailable
from hitcounter_api.coalescing import TooManyCalls
from hitcounter_api.intake import IntakeFull
from hitcounter_api.problems import (
    VALUE_MAX_CHARACTERS,
    Kind,
    Problem,
    problem_of,
    show,
)
from hypothesis import given
from hypothesis import strategies as st
from redis import exceptions as redis_errors

from tests.unit.api.fakes import NOW_MS, FakeStream, build_intake


def render(problem: Problem) -> bytes:
    """Return the body of the response."""
    return problem.render()[1]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
)


@given(json_values)
def test_any_value_can_be_shown_and_is_cut(value: object) -> None:
    text = orjson.dumps(show(value)).decode()
    assert len(orjson.loads(text)) <= VALUE_MAX_CHARACTERS + 1 if text.startswith('"') else len(text) < 100


def test_a_deeply_nested_value_can_be_shown() -> None:
    assert show(orjson.loads(b"[" * 1000 + b"]" * 1000)) == "an array, deeply nested"


def test_a_fault_names_field_value_and_limit() -> None:
    error = InvalidHit("weight", "the weight must be from 1 to 1,000,000", 1_000_000)
    problem = orjson.loads(render(problem_of(error, {"id": "a", "weight": 0})))
    assert problem == {
        "type": "urn:hitcounter:problem:invalid-hit",
        "title": "The hit breaks a rule",
        "status": 422,
        "detail": "the weight must be from 1 to 1,000,000",
        "field": "weight",
        "value": 0,
        "limit": 1_000_000,
    }


def test_a_key_from_the_header_is_named_by_the_header() -> None:
    problem = problem_of(InvalidHit("key", "too long", 128), {"id": "a"}, "k")
    assert problem.members == {"field": "Idempotency-Key", "value": "k", "limit": 128}


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (StreamUnavailable("why", outcome=Outcome.UNKNOWN, retry_after_seconds=1.2), "unknown"),
        (StreamUnavailable("why", outcome=Outcome.REFUSED, retry_after_seconds=1.2), "refused"),
        (IntakeFull("why", retry_after_seconds=1.2), "refused"),
    ],
)
def test_hits_that_may_be_sent_again_get_a_503_with_outcome_and_retry_after(error: Exception, outcome: str) -> None:
    problem = problem_of(error)
    assert problem.kind.status == 503
    assert problem.members == {"outcome": outcome}
    assert problem.headers == [("retry-after", "2")]


def test_a_read_that_redis_does_not_answer_says_nothing_of_hits() -> None:
    problem = problem_of(StreamUnavailable("Redis does not answer"), is_write=False)
    assert (problem.kind, problem.members) == (Kind.STREAM_UNAVAILABLE, {})


def test_a_durability_that_is_not_to_be_had_is_a_422_that_nobody_need_try_again() -> None:
    problem = problem_of(DurabilityUnavailable("why"))
    assert problem.kind.status == 422
    assert problem.members == {"field": "Hitcounter-Durability"}
    assert not problem.headers


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (StreamUnavailable("away"), Kind.STREAM_UNAVAILABLE),
        (IndexUnavailable("away"), Kind.INDEX_UNAVAILABLE),
        (TooManyCalls("many"), Kind.READS_FULL),
        (IntakeFull("many"), Kind.INTAKE_FULL),
        (DurabilityUnavailable("no WAITAOF"), Kind.DURABILITY_UNAVAILABLE),
        (InvalidHit("id", "bad"), Kind.INVALID_HIT),
        (Problem(Kind.NOT_FOUND, "nothing"), Kind.NOT_FOUND),
    ],
)
def test_every_error_of_ours_has_its_problem(error: Exception, kind: Kind) -> None:
    assert problem_of(error).kind is kind


def test_the_text_of_an_unforeseen_error_stays_in_the_log() -> None:
    assert b"secret" not in render(problem_of(ValueError("a secret")))


def test_kinds_have_slugs_of_their_own() -> None:
    assert len({kind.slug for kind in Kind}) == len(Kind)


# ── what anonymous clients may know ─────────────────────────────────────────────────────────────────────────────────

ADDRESS = "redis-0.internal:16379 as user hits-writer"
"""What the libraries' errors hold: they name host, port and user in many forms."""
REDIS_ERRORS = [
    kind(f"Error 111 connecting to {ADDRESS}")
    for kind in (
        *(
            found
            for found in vars(redis_errors).values()
            if isinstance(found, type)
            and issubclass(found, Exception)
            and not issubclass(found, redis_errors.AskError)  # of a cluster, and parses its text
        ),
        OSError,
        TimeoutError,
        RuntimeError,
    )
]


def test_there_are_many_errors_to_try() -> None:
    assert len(REDIS_ERRORS) > 20


@pytest.mark.parametrize("error", REDIS_ERRORS, ids=[type(error).__name__ for error in REDIS_ERRORS])
@pytest.mark.parametrize("outcome", [None, *Outcome])
async def test_no_failure_of_redis_tells_clients_where_it_is(error: Exception, outcome: Outcome | None) -> None:
    failure = build_stream_unavailable(error, "accept a batch", outcome)
    assert ADDRESS in str(failure), "the log has it all"
    assert ADDRESS.encode() not in render(problem_of(failure))
    refusal = await build_intake(FakeStream(trouble=failure), budget_seconds=0.05).add_all([Hit("a", NOW_MS)])
    assert refusal is not None
    assert ADDRESS.encode() not in render(problem_of(refusal))


@pytest.mark.parametrize(
    "error",
    [
        ElasticConnectionError(f"cannot connect to {ADDRESS}"),
        ConnectionTimeout(ADDRESS),
        ApiError("boom", meta=None, body={"error": {"type": "x", "reason": ADDRESS}}),  # type: ignore[arg-type]
    ],
    ids=["refused", "slow", "error"],
)
def test_no_failure_of_elasticsearch_tells_clients_where_it_is(error: Exception) -> None:
    if isinstance(error, ApiError):
        error.meta = type("Meta", (), {"status": 503})  # type: ignore[assignment]
    with pytest.raises(IndexUnavailable) as caught, translate_elasticsearch_errors("read the counts"):
        raise error

    assert ADDRESS.encode() not in render(problem_of(caught.value))
