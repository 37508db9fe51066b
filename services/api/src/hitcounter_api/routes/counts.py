"""GET /analytics/{id}: the counts of one id."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Final

import orjson
from fastapi import Depends, FastAPI, Path, Request, Response
from hitcounter.hits import ID_MAX_BYTES
from starlette.convertors import Convertor, register_url_convertor

from hitcounter_api.access import check_id
from hitcounter_api.counts import WINDOWS
from hitcounter_api.openapi import problem_responses
from hitcounter_api.reads import Answer, Reads
from hitcounter_api.requests import read_id
from hitcounter_api.schemas import EXAMPLE_ID, Counts
from hitcounter_api.times import format_time

AS_OF: Final = "Hitcounter-As-Of"
BACKLOG: Final = "Hitcounter-Backlog"
STALE: Final = "Hitcounter-Stale"


class _AnyText(Convertor[str]):
    """The whole rest of a path. Starlette's own `path` stops at a line feed, which an id may contain."""

    regex: ClassVar[str] = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("any_text", _AnyText())

_PathParameter = Annotated[
    str,
    Path(
        alias="id",
        description=f"The id, up to {ID_MAX_BYTES} bytes of UTF-8.",
        json_schema_extra={"minLength": 1, "maxLength": ID_MAX_BYTES},  # of bytes, which requests.py checks
        examples=[EXAMPLE_ID],
    ),
]


def id_after(prefix: bytes) -> Any:
    """Return the dependency that reads the id behind the prefix from the raw path: the decoded path is not exact."""

    def read(request: Request, _documented: _PathParameter) -> str:
        id_ = read_id(request.scope["raw_path"], prefix)
        check_id(getattr(request.state, "caller", None), id_)
        return id_

    return Depends(read)


def add_routes(app: FastAPI, reads: Reads, clock_ms: Callable[[], int]) -> None:
    """Add the route that answers counts."""

    @app.get(
        "/analytics/{id:any_text}",
        tags=["counts"],
        operation_id="readCounts",
        summary="Read how often an id was hit",
        description="Returns five windows that end now, to the millisecond. An id that was never hit has zeros. "
        "Everything after `/analytics/` is the id: percent-encode reserved characters; slashes may stay as they are.",
        response_model=Counts,
        responses={200: {"headers": ANSWER_HEADERS}, **problem_responses(400, 401, 403, 422, 500, 503)},
    )
    async def read_counts(id_: Annotated[str, id_after(b"/analytics/")]) -> Response:
        answer = await reads.read(id_, clock_ms)
        # Its bytes are an interface, so they are not left to the serializer of the framework.
        return Response(render(id_, answer), headers=build_headers(answer), media_type="application/json")


def render(id_: str, answer: Answer) -> bytes:
    """Return the body."""
    counts = [
        {"reference": reference, "count": count} for (reference, _), count in zip(WINDOWS, answer.counts, strict=True)
    ]
    return orjson.dumps({"id": id_, "counts": counts})


def build_headers(answer: Answer) -> dict[str, str]:
    """Return the headers that say how complete the counts are; an unknown value is omitted."""
    freshness = answer.freshness
    headers = {}
    if freshness.as_of_ms is not None:
        headers[AS_OF] = format_time(freshness.as_of_ms)
    if freshness.backlog is not None:
        headers[BACKLOG] = str(freshness.backlog)
    if answer.is_stale:
        headers[STALE] = "true"
    return headers


ANSWER_HEADERS: Final = {
    AS_OF: {
        "description": "Completeness time: every hit accepted before it is included in the counts, or a dead letter. "
        "Omitted if it is not known.",
        "schema": {"type": "string", "format": "date-time"},
        "example": "2026-11-23T08:15:30.250Z",
    },
    BACKLOG: {
        "description": "Hits of all ids that are accepted and not yet settled. Omitted while Redis is down.",
        "schema": {"type": "integer", "minimum": 0},
        "example": 0,
    },
    STALE: {
        "description": "Elasticsearch is down: these are the last known counts, as of `Hitcounter-As-Of`.",
        "schema": {"type": "string", "enum": ["true"]},
    },
}
