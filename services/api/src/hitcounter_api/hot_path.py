"""POST /analytics, the hot path: one hit, handled before routing, by the protocol itself or as a raw ASGI endpoint.

Nearly all requests are handled here. A FastAPI route would cost four times as much: it creates request and response
objects, resolves dependencies, validates with a model and runs several layers of middleware. What FastAPI would do is
written by hand: the rules in hitcounter.hits, the problems in problems.py, the documentation in routes/track.py. Every
hit pays for every line that is added here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson
from hitcounter.errors import HitcounterError
from hitcounter.hits import read_hit
from hitcounter.logs import get_logger

from hitcounter_api.access import Access, check_id
from hitcounter_api.intake import Intakes
from hitcounter_api.keys import Caller, Scope
from hitcounter_api.listeners import Listener, Observer, open_answer
from hitcounter_api.metrics import ApiMetrics
from hitcounter_api.problems import Kind, Problem, count_problem, problem_of, send_problem
from hitcounter_api.requests import (
    HIT_MAX_BYTES,
    ClientGone,
    Headers,
    Receive,
    Send,
    TrackHeaders,
    check_size,
    read_body,
    read_headers,
    read_traceparent,
)

PATH: Final = "/analytics"
_TRACK: Final = Scope.TRACK  # an attribute of an Enum takes longer
_ACCEPTED: Final = {"type": "http.response.start", "status": 204, "headers": []}
_NO_BODY: Final = {"type": "http.response.body", "body": b""}

log = get_logger()


class HotPath:
    """The endpoint. It responds when the hit is in Redis, or with the problem."""

    def __init__(
        self,
        intakes: Intakes,
        metrics: ApiMetrics,
        clock_ms: Callable[[], int],
        observer: Observer | None = None,
        access: Access | None = None,
    ) -> None:
        self._intakes = intakes
        self.metrics = metrics
        self._clock_ms = clock_ms
        self._observer = observer
        self._access = access

    def take(
        self,
        headers: Headers,
        body: bytes,
        answer: Listener,
        head: TrackHeaders | None = None,
        caller: Caller | None = None,
    ) -> None:
        """Pass the hit of a complete request to the intake.

        Args:
            headers: all headers of the request.
            body: its body.
            answer: called once, now or later.
            head: what read_headers returned for these headers, if they were read already.
            caller: who sends the request, if it was admitted already.
        """
        fields: object = None
        try:
            if self._observer is not None:
                answer = self._observer.observe_hit(headers, answer)
            if head is None:
                head = read_headers(headers)
                if self._access is not None:
                    caller = self._access.admit(_TRACK, head.authorization)
            check_size(len(body), HIT_MAX_BYTES)
            fields = orjson.loads(body)
            hit = read_hit(fields, self._clock_ms(), head.key)
            if caller is not None and caller.prefixes:
                check_id(caller, hit.id)
            self._intakes.choose(head.durability).add(hit, answer)
        except Exception as error:  # noqa: BLE001 - the last layer before the server: every error gets a response
            answer(self._explain(error, headers, fields, head, caller))

    async def __call__(
        self, scope: Mapping[str, Any], receive: Receive, send: Send, url_keys: Sequence[bytes] = ()
    ) -> None:
        """Answer a request as an ASGI application. The keys of its URL are not in the scope any more."""
        headers = scope["headers"]
        failure: HitcounterError | None
        caller = None
        try:
            head = read_headers(headers)
            if self._access is not None:
                caller = self._access.admit(_TRACK, head.authorization, url_keys)
            body = await read_body(receive, head.declared_bytes, HIT_MAX_BYTES)
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001 - as in take: every error gets a problem
            failure = self._explain(error, headers)
        else:
            outcome, answer = open_answer()
            self.take(headers, body, answer, head, caller)
            failure = await outcome
        if failure is None:
            await send(_ACCEPTED)
            await send(_NO_BODY)
        else:
            await send_problem(send, problem_of(failure))

    def _explain(
        self,
        error: Exception,
        headers: Headers,
        fields: object = None,
        head: TrackHeaders | None = None,
        caller: Caller | None = None,
    ) -> Problem:
        if isinstance(error, orjson.JSONDecodeError):
            problem = Problem(Kind.NOT_JSON, f"the body is not JSON: {error}")
        else:
            problem = problem_of(error, fields, None if head is None else head.key)
        if problem.kind is Kind.INTERNAL:
            name = None if caller is None else caller.name
            log.error("a hit could not be handled", exc_info=error, traceparent=read_traceparent(headers), caller=name)
        count_problem(self.metrics, problem)
        return problem
