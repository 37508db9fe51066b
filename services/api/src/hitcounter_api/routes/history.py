"""GET /history/{id}: the counts of one id over time, for a chart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final, Literal

from fastapi import Depends, FastAPI, Query, Request, Response

from hitcounter_api.counts import HISTORIES, Steps
from hitcounter_api.openapi import problem_responses
from hitcounter_api.problems import Kind, Problem, show
from hitcounter_api.reads import Reads
from hitcounter_api.routes.counts import ANSWER_HEADERS, build_headers, id_after
from hitcounter_api.schemas import History
from hitcounter_api.times import format_time

_Step = Annotated[
    Literal["minute", "hour"],
    Query(description="The length of a step: `minute` for the last hour, `hour` for the last 3 days."),
]
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
        responses={200: {"headers": ANSWER_HEADERS}, **problem_responses(400, 401, 403, 422, 500, 503)},
    )
    async def read_history(
        id_: Annotated[str, id_after(b"/history/")],
        steps: Annotated[Steps, Depends(choose_steps)],
        response: Response,
    ) -> History:
        answer = await reads.read_history(id_, steps, clock_ms)
        response.headers.update(build_headers(answer))
        return History(
            id=id_,
            step_seconds=steps.length_ms // 1000,
            end=format_time(answer.end_ms),
            counts=list(answer.counts),
        )


def choose_steps(request: Request, step: _Step = _DEFAULT_STEP) -> Steps:
    """Return the steps that the query asks for.

    Raises:
        Problem: there is more than one. FastAPI would take the last one.
    """
    values = request.query_params.getlist("step")
    if len(values) > 1:
        known = " or ".join(HISTORIES)
        members = {"field": "step", "value": show(",".join(values)), "limit": known}
        raise Problem(Kind.INVALID_QUERY, f"the step must be {known}", members)
    return HISTORIES[step]
