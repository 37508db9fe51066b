"""Tracing of the API: spans of requests and of the batches that they share. Imported only if tracing is enabled.

hitcounter.tracing explains how spans are connected. A request is traced if its traceparent is sampled, or, without a
traceparent, if the sampler chooses it. Its listener is replaced by one that has its span, so that the batch knows its
traced requests from its listeners. A batch gets a span, and a traceparent for the indexer, only if it has such
listeners. Requests other than `POST /analytics` get their spans from the web framework.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Final, TypeGuard

from hitcounter.errors import HitcounterError
from hitcounter.tracing import LINKS_MAX, extract_context, join, write_traceparent
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext, SpanKind, Status, StatusCode, Tracer, get_current_span

from hitcounter_api.hot_path import PATH
from hitcounter_api.listeners import Listener
from hitcounter_api.problems import problem_of
from hitcounter_api.requests import Headers

_NAME: Final = f"POST {PATH}"
_ATTRIBUTES: Final = {"http.request.method": "POST", "http.route": PATH}
_ACCEPTED: Final = 204
_FAULT_FROM: Final = 500
"""Responses with at least this status are errors of the server, and mark the span as an error."""


class TracingObserver:
    """Creates the spans of traced requests and of their batches.

    Args:
        tracer: creates the spans.
        sample_ratio: the fraction of requests without a traceparent that is traced.
    """

    def __init__(self, tracer: Tracer, *, sample_ratio: float) -> None:
        self._tracer = tracer
        self._sample_ratio = sample_ratio

    def observe_hit(self, headers: Headers, answer: Listener) -> Listener:
        """Start the span of a request of the hot path, if it is traced; it ends with the answer."""
        context = read_context(headers)
        if context is None:
            if random.random() >= self._sample_ratio:  # noqa: S311 - not a secret
                return answer
            context = Context()
        span = self._tracer.start_span(_NAME, context, SpanKind.SERVER, _ATTRIBUTES)
        return _HitListener(answer, span) if span.is_recording() else answer

    def observe_hits(self, answer: Listener) -> Listener:
        """Remember the span that the web framework has started for this request, if it is traced."""
        span = get_current_span()
        return _TracedListener(answer, span) if span.is_recording() else answer

    async def send(
        self, listeners: Sequence[Listener], hits: int, send: Callable[[str], Awaitable[HitcounterError | None]]
    ) -> HitcounterError | None:
        """Send a batch; if it has traced requests, in a span that is linked to them."""
        requests = [one.context for one in islice(filter(_is_traced, listeners), LINKS_MAX)]
        if not requests:
            return await send("")
        context, links = join(requests)
        attributes = {"hitcounter.hits": hits}
        with self._tracer.start_as_current_span("accept", context, SpanKind.PRODUCER, attributes, links) as span:
            error = await send(write_traceparent(span) if span.is_recording() else "")
            if error is not None:
                span.set_status(Status(StatusCode.ERROR, getattr(error, "summary", str(error))))
            return error


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


class _TracedListener:
    """The listener of a traced request."""

    def __init__(self, answer: Listener, span: Span) -> None:
        self._answer = answer
        self._span = span

    @property
    def context(self) -> SpanContext:
        return self._span.get_span_context()

    def __call__(self, error: HitcounterError | None) -> None:
        self._answer(error)


class _HitListener(_TracedListener):
    """The listener of a request whose span ends with its answer."""

    def __call__(self, error: HitcounterError | None) -> None:
        try:
            status = _ACCEPTED if error is None else problem_of(error).kind.status
            self._span.set_attribute("http.response.status_code", status)
            if status >= _FAULT_FROM:
                self._span.set_status(Status(StatusCode.ERROR))
            self._span.end()
        finally:  # whatever happens to the span, the client gets its answer
            super().__call__(error)


def _is_traced(listener: Listener) -> TypeGuard[_TracedListener]:
    return isinstance(listener, _TracedListener)
