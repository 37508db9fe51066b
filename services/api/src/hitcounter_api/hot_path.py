"""POST /analytics, the hot path: one hit, handled before routing, by the protocol itself or as a raw ASGI endpoint.

Nearly all requests are handled here. A FastAPI route would cost four times as much: it creates request and response
objects, resolves dependencies, validates with a model and runs several layers of middleware. What FastAPI would do is
written by hand: the rules in hitcounter.hits, the problems in problems.py, the documentation in routes/track.py. Every
hit pays for every line that is added here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

import orjson
from hitcounter.errors import InvalidHit
from hitcounter.hits import read_hit
from hitcounter.logs import get_logger

from hitcounter_api.intake import Intakes, Refusal
from hitcounter_api.metrics import ApiMetrics
from hitcounter_api.problems import Kind, Problem, problem_of, problem_of_hit, problem_of_refusal, send_problem
from hitcounter_api.requests import (
    HIT_MAX_BYTES,
    ClientGone,
    Headers,
    Receive,
    Scope,
    Send,
    check_size,
    read_body,
    read_headers,
    read_traceparent,
)

PATH: Final = "/analytics"
_ACCEPTED: Final = {"type": "http.response.start", "status": 204, "headers": []}
_NO_BODY: Final = {"type": "http.response.body", "body": b""}

log = get_logger()


class Answerable(Protocol):
    """A request that waits for its answer."""

    def answer(self, refusal: Refusal | None) -> None:
        """Receive the result of its hit: None if it is in Redis."""

    def answer_problem(self, problem: Problem) -> None:
        """Receive the problem with the request."""


class _AwaitedRequest:
    """A request whose coroutine awaits its answer."""

    def __init__(self) -> None:
        self.outcome: asyncio.Future[Problem | None] = asyncio.get_running_loop().create_future()

    def answer(self, refusal: Refusal | None) -> None:
        self._set(None if refusal is None else problem_of_refusal(refusal))

    def answer_problem(self, problem: Problem) -> None:
        self._set(problem)

    def _set(self, problem: Problem | None) -> None:
        if not self.outcome.done():  # its server gave it up
            self.outcome.set_result(problem)


class HotPath:
    """The endpoint. It responds when the hit is in Redis, or with the problem."""

    def __init__(self, intakes: Intakes, metrics: ApiMetrics, clock_ms: Callable[[], int]) -> None:
        self._intakes = intakes
        self.metrics = metrics
        self._clock_ms = clock_ms

    def take(self, headers: Headers, body: bytes, request: Answerable) -> None:
        """Pass the hit of a complete request to the intake. The request is answered once, now or later."""
        fields: object = None
        header_key = None
        try:
            _, header_key, durability = read_headers(headers)
            check_size(len(body), HIT_MAX_BYTES)
            fields = orjson.loads(body)
            hit = read_hit(fields, self._clock_ms(), header_key)
            self._intakes.choose(durability).add(hit, request.answer)
        except Exception as error:  # noqa: BLE001 - the last layer before the server: every error gets a response
            request.answer_problem(self._explain(error, headers, fields, header_key))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request as an ASGI application."""
        try:
            body = await read_body(receive, read_headers(scope["headers"]).declared_bytes, HIT_MAX_BYTES)
        except ClientGone:
            return
        except (InvalidHit, Problem) as error:
            await send_problem(send, self._explain(error, scope["headers"]))
            return
        request = _AwaitedRequest()
        self.take(scope["headers"], body, request)
        problem = await request.outcome
        if problem is None:
            await send(_ACCEPTED)
            await send(_NO_BODY)
        else:
            await send_problem(send, problem)

    def _explain(
        self, error: Exception, headers: Headers, fields: object = None, header_key: str | None = None
    ) -> Problem:
        match error:
            case InvalidHit():
                problem = problem_of_hit(error, fields, header_key)
            case orjson.JSONDecodeError():
                problem = Problem(Kind.NOT_JSON, f"the body is not JSON: {error}")
            case Problem():
                problem = error
            case _:
                log.error("a hit could not be handled", exc_info=error, traceparent=read_traceparent(headers))
                self.metrics.internal_errors.inc()
                return problem_of(error)
        self.metrics.count_invalid(problem.kind.slug, problem.members.get("field"))
        return problem
