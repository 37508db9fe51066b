"""Tracing of the indexer: spans of cycles and of their bulks. Imported only if tracing is enabled.

hitcounter.tracing explains how spans are connected. The indexer does not sample: it traces a cycle and its bulks if the
API traced one of its entries.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from hitcounter.codec import read_traceparent
from hitcounter.entries import Entry
from hitcounter.tracing import extract_span_context, join
from opentelemetry.trace import SpanKind, Tracer, get_current_span

from hitcounter_indexer.outcomes import ItemResult


class TracingObserver:
    """Creates a span for each cycle with traced entries, and for each bulk of it."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def observe_cycle(self, entries: Sequence[Entry]) -> contextlib.AbstractContextManager[object]:
        """Return the span of the cycle, which begins below its first traced entry."""
        batches = [span for entry in entries if (span := extract_span_context(read_traceparent(entry.payload)))]
        if not batches:
            return contextlib.nullcontext()
        context, links = join(batches)
        attributes = {"hitcounter.entries": len(entries), "hitcounter.hits": sum(entry.hits for entry in entries)}
        return self._tracer.start_as_current_span("index", context, SpanKind.CONSUMER, attributes, links)

    async def observe_bulk(self, documents: int, send: Callable[[], Awaitable[list[ItemResult]]]) -> list[ItemResult]:
        """Send one bulk. Its span includes the wait for a free slot."""
        if not get_current_span().is_recording():
            return await send()
        with self._tracer.start_as_current_span("bulk", attributes={"hitcounter.documents": documents}) as span:
            results = await send()
            for outcome, number in Counter(result.outcome for result in results).items():
                span.set_attribute(f"hitcounter.documents.{outcome.value}", number)
            return results
