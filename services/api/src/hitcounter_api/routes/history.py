"""GET /history/{id}: the counts of one id over time, for a chart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import orjson
from fastapi import FastAPI, Request, Response

from hitcounter_api.counts import HISTORIES, Steps
from hitcounter_api.openapi import problem_responses
from hitcounter_api.problems import Kind, Problem, show
from hitcounter_api.reads import Answer, Reads
from hitcounter_api.requests import read_id
from hitcounter_api.routes.counts import ANSWER_HEADERS, ID_PARAMETER, build_headers
from hitcounter_api.schemas import History
from hitcounter_api.times import format_time

PREFIX: Final = b"/history/"
_DEFAULT_STEP: Final = "hour"


def add_routes(app: FastAPI, reads: Reads, clock_ms: Callable[[], int]) -> None:
    """Add the route that answers histories."""

    @app.get(
        "/history/{id:any_text}",
        tags=["counts"],
        operation_id="readHistory",
        summary="Read how often an id was hit, step by step",
        description="Returns steps of equal length without gaps; the last one ends now: the 60 minutes of the last "
        "hour, or the 72 hours of the last 3 days. Their sum is the count of that window. A history is always fresh: "
        "while Elasticsearch is down, the response is an error.",
        response_model=History,
        responses={200: {"headers": ANSWER_HEADERS}, **problem_responses(400, 422, 500, 503)},
        openapi_extra={"parameters": [ID_PARAMETER, _STEP_PARAMETER]},
    )
    async def read_history(request: Request) -> Response:
        id_ = read_id(request.scope["raw_path"], PREFIX)
        steps = choose_steps(request.query_params.getlist("step"))
        answer = await reads.read_history(id_, steps, clock_ms)
        return Response(render(id_, steps, answer), headers=build_headers(answer), media_type="application/json")


def choose_steps(values: list[str]) -> Steps:
    """Return the steps that the query asks for.

    Raises:
        Problem: the step is unknown, or there is more than one.
    """
    try:
        (step,) = values or [_DEFAULT_STEP]
        return HISTORIES[step]
    except (KeyError, ValueError):
        known = " or ".join(HISTORIES)
        members = {"field": "step", "value": show(",".join(values)), "limit": known}
        raise Problem(Kind.INVALID_QUERY, f"the step must be {known}", members) from None


def render(id_: str, steps: Steps, answer: Answer) -> bytes:
    """Return the body."""
    end = format_time(answer.end_ms)
    return orjson.dumps({"id": id_, "step_seconds": steps.length_ms // 1000, "end": end, "counts": answer.counts})


_STEP_PARAMETER: Final = {
    "name": "step",
    "in": "query",
    "required": False,
    "description": "The length of a step: `minute` for the last hour, `hour` for the last 3 days.",
    "schema": {"type": "string", "enum": list(HISTORIES), "default": _DEFAULT_STEP},
}
