"""POST /analytics: one hit, as a raw ASGI endpoint that is asked before any routing.

Nearly all requests come here, and a FastAPI route costs four times what this does: it builds request and response
objects, solves dependencies, validates by a model and passes half a dozen layers of middleware. What it would
give us is written out instead: the rules in hitcounter.hits, the problems in problems.py, the documentation in
routes/track.py. Whatever is added here is paid for by every hit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import orjson
from hitcounter.errors import InvalidHit
from hitcounter.hits import read_hit
from hitcounter.logs import get_logger

from hitcounter_api.intake import Intake
from hitcounter_api.metrics import ApiMetrics
from hitcounter_api.problems import Kind, Problem, problem_of, problem_of_hit, problem_of_refusal, send_problem
from hitcounter_api.requests import HIT_MAX_BYTES, ClientGone, Receive, Scope, Send, read_body, read_headers

PATH: Final = "/analytics"
_ACCEPTED: Final = {"type": "http.response.start", "status": 204, "headers": []}
_NO_BODY: Final = {"type": "http.response.body", "body": b""}

log = get_logger()


class HotPath:
    """The endpoint. Answers once the hit is in Redis, or with the problem that kept it out."""

    def __init__(self, intake: Intake, metrics: ApiMetrics, clock_ms: Callable[[], int]) -> None:
        self._intake = intake
        self._metrics = metrics
        self._clock_ms = clock_ms

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        fields: object = None
        header_key = None
        try:
            declared_bytes, header_key = read_headers(scope["headers"])
            body = await read_body(receive, declared_bytes, HIT_MAX_BYTES)
            fields = orjson.loads(body)
            refusal = await self._intake.add(read_hit(fields, self._clock_ms(), header_key))
        except ClientGone:
            return
        except Exception as error:  # the last layer before the server
            problem = self._explain(error, fields, header_key)
        else:
            if refusal is None:
                await send(_ACCEPTED)
                await send(_NO_BODY)
                return
            problem = problem_of_refusal(refusal)
        await send_problem(send, problem)

    def _explain(self, error: Exception, fields: object, header_key: str | None) -> Problem:
        match error:
            case InvalidHit():
                problem = problem_of_hit(error, fields, header_key)
            case orjson.JSONDecodeError():
                problem = Problem(Kind.NOT_JSON, f"the body is not JSON: {error}")
            case Problem():
                problem = error
            case _:
                log.error("a hit could not be handled", exc_info=error)
                return problem_of(error)
        self._metrics.count_invalid(problem.kind.slug, problem.members.get("field"))
        return problem
