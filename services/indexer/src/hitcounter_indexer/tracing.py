"""What the indexer does in place of its usual parts while traces are on: spans of turns and of their bulks.

The story is told in hitcounter.tracing. The indexer draws nothing itself: a turn is traced if one of its entries says
that the API traced it, and so are the bulks of such a turn. This module is imported only where traces are on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from hitcounter.codec import read_traceparent
from hitcounter.entries import Entry
from hitcounter.tracing import extract_span_context, join
from opentelemetry.trace import SpanKind, Tracer, get_current_span

from hitcounter_indexer.documents import Action
from hitcounter_indexer.outcomes import ItemResult
from hitcounter_indexer.turn import TurnEnd, TurnWriter


class TracedTurnWriter(TurnWriter):
    """A writer with a span for each turn that has traced entries, and one for each of its bulks."""

    def __init__(self, *, tracer: Tracer, **options: Any) -> None:
        super().__init__(**options)
        self._tracer = tracer

    async def finish(self, entries: Sequence[Entry]) -> TurnEnd:
        """Bring the entries to their ends, as TurnWriter does."""
        batches = [span for entry in entries if (span := extract_span_context(read_traceparent(entry.payload)))]
        if not batches:
            return await super().finish(entries)
        context, links = join(batches)
        attributes = {"hitcounter.entries": len(entries), "hitcounter.hits": sum(entry.hits for entry in entries)}
        with self._tracer.start_as_current_span("index", context, SpanKind.CONSUMER, attributes, links):
            return await super().finish(entries)

    async def _send(self, actions: Sequence[Action]) -> list[ItemResult]:
        """Send one bulk; its span begins when it is ready, and may have to wait for its turn."""
        if not get_current_span().is_recording():
            return await super()._send(actions)
        with self._tracer.start_as_current_span("bulk", attributes={"hitcounter.documents": len(actions)}) as span:
            results = await super()._send(actions)
            for outcome, documents in Counter(result.outcome for result in results).items():
                span.set_attribute(f"hitcounter.documents.{outcome.value}", documents)
            return results
