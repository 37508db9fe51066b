"""The error responses of the API: RFC 9457 problem details. All kinds are in this table.

Below HTTP, errors are those of hitcounter.errors. `problem_of` converts them, and nothing else does. What only HTTP
knows (a path, a method, the size of a body) is a Problem from the start.

A problem has the field, the value (shortened) and the limit, if there are any. A 503 has `Retry-After`, and `outcome`
says whether the hits may have been accepted after all.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import Enum
from http import HTTPStatus
from typing import Final

import orjson
from hitcounter.errors import (
    DurabilityUnavailable,
    HitcounterError,
    IndexUnavailable,
    InvalidHit,
    Outcome,
    StreamUnavailable,
    TransientError,
)

from hitcounter_api.coalescing import TooManyCalls
from hitcounter_api.intake import IntakeFull
from hitcounter_api.metrics import ApiMetrics

MEDIA_TYPE: Final = "application/problem+json"
VALUE_MAX_CHARACTERS: Final = 100
"""A value is shortened to this: enough for the client to recognize it."""
INTERNAL_DETAIL: Final = "this is a bug in the server; its log has the details"

_Headers = Sequence[tuple[str, str]]


class Kind(Enum):
    """The kinds of problems: HTTP status, last part of the type, title."""

    NOT_JSON = (400, "not-json", "The body is not JSON")
    MALFORMED_PATH = (400, "malformed-path", "The path is not percent-encoded UTF-8")
    MALFORMED_REQUEST = (400, "malformed-request", "This is not an HTTP request")
    UNAUTHORIZED = (401, "unauthorized", "The request needs a key")
    FORBIDDEN = (403, "forbidden", "The key does not allow this")
    NOT_FOUND = (404, "not-found", "There is nothing here")
    METHOD_NOT_ALLOWED = (405, "method-not-allowed", "The method is not allowed here")
    SLOW_BODY = (408, "slow-body", "The body took too long to arrive")
    TOO_LARGE = (413, "too-large", "The request is too large")
    CONTENT_ENCODING = (415, "content-encoding", "The body is compressed")
    HEAD_TOO_LARGE = (431, "head-too-large", "The head of the request is too large")
    INVALID_HIT = (422, "invalid-hit", "The hit breaks a rule")
    DURABILITY_UNAVAILABLE = (422, "durability-unavailable", "This durability is not available")
    INVALID_BATCH = (422, "invalid-batch", "Hits of the batch break a rule; none was accepted")
    INVALID_QUERY = (422, "invalid-query", "The query breaks a rule")
    NOT_IMPLEMENTED = (501, "not-implemented", "The server does not support what the request asks for")
    TOO_MANY_CONNECTIONS = (503, "too-many-connections", "Too many connections are open")
    INTERNAL = (500, "internal-error", "The server failed")
    INTAKE_FULL = (503, "intake-full", "Too many hits are waiting")
    STREAM_UNAVAILABLE = (503, "stream-unavailable", "The queue of hits is not available")
    READS_FULL = (503, "reads-full", "Too many reads are in progress")
    INDEX_UNAVAILABLE = (503, "index-unavailable", "The counts are not available")

    def __init__(self, status: int, slug: str, title: str) -> None:
        self.status = status
        self.slug = slug
        self.title = title

    @property
    def type(self) -> str:
        """The problem type: a URN, not an address."""
        return f"urn:hitcounter:problem:{self.slug}"

    @property
    def is_invalid(self) -> bool:
        """True if the client must change the request."""
        return self.status < HTTPStatus.INTERNAL_SERVER_ERROR or self is Kind.NOT_IMPLEMENTED


class Problem(HitcounterError):
    """One problem: it is raised, or told to the listener of a request."""

    def __init__(
        self, kind: Kind, detail: str, members: Mapping[str, object] | None = None, *, headers: _Headers = ()
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.members = members or {}
        self.headers = headers

    def render(self) -> tuple[list[tuple[str, str]], bytes]:
        """Return the headers and the body of the response."""
        kind = self.kind
        body = orjson.dumps(
            {"type": kind.type, "title": kind.title, "status": kind.status, "detail": self.detail, **self.members}
        )
        return [("content-type", MEDIA_TYPE), ("content-length", str(len(body))), *self.headers], body


def problem_of(
    error: Exception, fields: object = None, header_key: str | None = None, *, is_write: bool = True
) -> Problem:
    """Convert an error to the problem that the client sees.

    Args:
        error: any error.
        fields: the decoded body, from which the value of an invalid field is shown.
        header_key: the Idempotency-Key of the request.
        is_write: the request has hits, and the client must know whether they may have been accepted.
    """
    match error:
        case Problem():
            return error
        case InvalidHit():
            return Problem(Kind.INVALID_HIT, error.detail, describe_fault(error, fields, header_key))
        case DurabilityUnavailable():  # a later retry would fail, too
            return Problem(Kind.DURABILITY_UNAVAILABLE, str(error), {"field": "Hitcounter-Durability"})
        case IntakeFull():
            return _unavailable(Kind.INTAKE_FULL, error, {"outcome": Outcome.REFUSED})
        case StreamUnavailable():
            return _unavailable(Kind.STREAM_UNAVAILABLE, error, {"outcome": error.outcome} if is_write else None)
        case TooManyCalls():
            return _unavailable(Kind.READS_FULL, error)
        case IndexUnavailable():
            return _unavailable(Kind.INDEX_UNAVAILABLE, error)
        case _:
            return Problem(Kind.INTERNAL, INTERNAL_DETAIL)


def count_problem(metrics: ApiMetrics, problem: Problem) -> None:
    """Count a request that the client must change, or that met a bug."""
    if problem.kind.is_invalid:
        metrics.count_invalid(problem.kind.slug, problem.members.get("field"))
    elif problem.kind is Kind.INTERNAL:
        metrics.internal_errors.inc()


def describe_fault(error: InvalidHit, fields: object = None, header_key: str | None = None) -> dict[str, object]:
    """Return the members of the problem: field, value and limit, as far as they are known."""
    fault: dict[str, object] = {}
    if error.field:
        fault["field"] = error.field
    if not isinstance(fields, dict):
        if fields is not None:
            fault["value"] = show(fields)
    elif error.field in fields:
        fault["value"] = show(fields[error.field])
    elif error.field == "key" and header_key is not None:
        fault |= {"field": "Idempotency-Key", "value": show(header_key)}
    if error.limit is not None:
        fault["limit"] = error.limit
    return fault


def show(value: object) -> object:
    """Return a decoded JSON value for a problem: the value itself, or the beginning of its text."""
    if isinstance(value, dict | list):
        try:
            value = orjson.dumps(value).decode()
        except orjson.JSONEncodeError:  # nested more deeply than it can write
            value = f"{'an object' if isinstance(value, dict) else 'an array'}, deeply nested"
    if isinstance(value, str) and len(value) > VALUE_MAX_CHARACTERS:
        return f"{value[:VALUE_MAX_CHARACTERS]}…"
    return value


async def send_problem(send: Callable[[dict[str, object]], Awaitable[None]], problem: Problem) -> None:
    """Send the problem as a complete HTTP response."""
    headers, body = problem.render()
    await send(
        {
            "type": "http.response.start",
            "status": problem.kind.status,
            "headers": [(name.encode(), value.encode()) for name, value in headers],
        }
    )
    await send({"type": "http.response.body", "body": body})


def _unavailable(kind: Kind, error: TransientError, members: Mapping[str, object] | None = None) -> Problem:
    retry_after = str(max(1, math.ceil(error.retry_after_seconds)))
    return Problem(kind, error.summary, members, headers=[("retry-after", retry_after)])
