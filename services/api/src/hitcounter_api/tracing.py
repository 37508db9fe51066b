"""Tracing of the API: spans of requests and of the batches that they share. Imported only if tracing is enabled.

hitcounter.tracing explains how spans are connected. A request is traced if its traceparent is sampled, or, without a
traceparent, if the sampler chooses it; all others take the normal path. A batch gets a span, and a traceparent for the
indexer, only if it contains a traced request. Requests other than `POST /analytics` get their spans from the web
framework.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from hitcounter.codec import HitBatch
from hitcounter.hits import Hit
from hitcounter.tracing import LINKS_MAX, extract_context, join, write_traceparent
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext, SpanKind, Status, StatusCode, Tracer, get_current_span, use_span

from hitcounter_api.hot_path import PATH, Answerable, HotPath
from hitcounter_api.intake import Intake, Intakes, Listener, Refusal, WaitingBatch
from hitcounter_api.metrics import ApiMetrics
from hitcounter_api.problems import Problem, problem_of_refusal
from hitcounter_api.requests import Headers

_NAME: Final = f"POST {PATH}"
_ATTRIBUTES: Final = {"http.request.method": "POST", "http.route": PATH}
_ACCEPTED: Final = 204
_FAULT_FROM: Final = 500
"""Responses with at least this status are errors of the server, and mark the span as an error."""


class TracedHotPath(HotPath):
    """The hot path with a span for each traced request.

    Args:
        intakes: see HotPath.
        metrics: see HotPath.
        clock_ms: see HotPath.
        tracer: creates the spans.
        sample_ratio: the fraction of requests without a traceparent that is traced.
    """

    def __init__(
        self,
        intakes: Intakes,
        metrics: ApiMetrics,
        clock_ms: Callable[[], int],
        *,
        tracer: Tracer,
        sample_ratio: float,
    ) -> None:
        super().__init__(intakes, metrics, clock_ms)
        self._tracer = tracer
        self._sample_ratio = sample_ratio

    def take(self, headers: Headers, body: bytes, request: Answerable) -> None:
        """Pass the hit of a request to the intake, as HotPath does."""
        context = read_context(headers)
        if context is None:
            if random.random() >= self._sample_ratio:  # noqa: S311 - not a secret
                super().take(headers, body, request)
                return
            context = Context()
        span = self._tracer.start_span(_NAME, context, SpanKind.SERVER, _ATTRIBUTES)
        if not span.is_recording():
            super().take(headers, body, request)
            return
        with use_span(span):
            super().take(headers, body, _TracedRequest(request, span))


def read_context(headers: Headers) -> Context | None:
    """Return the trace context of the request; None if it has no valid traceparent."""
    for name, _ in headers:
        if name == b"traceparent":
            break
    else:
        return None
    said = {name: value.decode("latin-1") for name, value in headers if name in (b"traceparent", b"tracestate")}
    context = extract_context(said[b"traceparent"], said.get(b"tracestate", ""))
    return context if get_current_span(context).get_span_context().is_valid else None


class _TracedRequest:
    """A request whose span ends with its answer."""

    def __init__(self, request: Answerable, span: Span) -> None:
        self._request = request
        self._span = span

    def answer(self, refusal: Refusal | None) -> None:
        self._end(_ACCEPTED if refusal is None else problem_of_refusal(refusal).kind.status)
        self._request.answer(refusal)

    def answer_problem(self, problem: Problem) -> None:
        self._end(problem.kind.status)
        self._request.answer_problem(problem)

    def _end(self, status: int) -> None:
        self._span.set_attribute("http.response.status_code", status)
        if status >= _FAULT_FROM:
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()


class TracedIntake(Intake):
    """An intake with a span for each batch that contains hits of traced requests."""

    def __init__(self, *arguments: Any, tracer: Tracer, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._tracer = tracer
        self._requests: dict[WaitingBatch, list[SpanContext]] = {}
        """The traced requests of each waiting batch, at most LINKS_MAX."""

    def _queue(self, hits: Sequence[Hit], listener: Listener) -> None:
        super()._queue(hits, listener)
        span = get_current_span()
        if span.is_recording() and self._waiting and self._waiting[-1].listeners[-1] is listener:
            requests = self._requests.setdefault(self._waiting[-1], [])
            if len(requests) < LINKS_MAX:
                requests.append(span.get_span_context())

    async def _send(self, batch: WaitingBatch) -> Refusal | None:
        requests = self._requests.pop(batch, None)
        if requests is None:
            return await super()._send(batch)
        context, links = join(requests)
        attributes = {"hitcounter.hits": len(batch.hits)}
        with self._tracer.start_as_current_span("accept", context, SpanKind.PRODUCER, attributes, links) as span:
            refusal = await super()._send(batch)
            if refusal is not None:
                span.set_status(Status(StatusCode.ERROR, refusal.detail))
            return refusal

    async def _append(self, batch: HitBatch) -> Refusal | None:
        span = get_current_span()
        if span.is_recording():
            batch = replace(batch, traceparent=write_traceparent(span))
        return await super()._append(batch)

    def _refuse_waiting(self, cause: Refusal) -> None:
        super()._refuse_waiting(cause)
        self._requests.clear()
