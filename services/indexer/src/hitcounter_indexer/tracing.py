"""Tracing of the indexer: spans of cycles and of their bulks. Imported only if tracing is enabled.

hitcounter.tracing explains how spans are connected. The indexer does not sample: it traces a cycle and its bulks if the
API traced one of its entries.
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
from hitcounter_indexer.entry_writer import EntryWriter, Sent, Unsettled
from hitcounter_indexer.outcomes import ItemResult


class TracedEntryWriter(EntryWriter):
    """An EntryWriter that creates a span for each cycle with traced entries, and for each bulk of it."""

    def __init__(self, *, tracer: Tracer, **options: Any) -> None:
        super().__init__(**options)
        self._tracer = tracer

    async def write(self, entries: Sequence[Entry]) -> Unsettled:
        """Write and settle the entries, as EntryWriter does."""
        batches = [span for entry in entries if (span := extract_span_context(read_traceparent(entry.payload)))]
        if not batches:
            return await super().write(entries)
        context, links = join(batches)
        attributes = {"hitcounter.entries": len(entries), "hitcounter.hits": sum(entry.hits for entry in entries)}
        with self._tracer.start_as_current_span("index", context, SpanKind.CONSUMER, attributes, links):
            return await super().write(entries)

    async def _send(self, actions: Sequence[Action], sent: Sent) -> list[ItemResult]:
        """Send one bulk. Its span includes the wait for a free slot."""
        if not get_current_span().is_recording():
            return await super()._send(actions, sent)
        with self._tracer.start_as_current_span("bulk", attributes={"hitcounter.documents": len(actions)}) as span:
            results = await super()._send(actions, sent)
            for outcome, documents in Counter(result.outcome for result in results).items():
                span.set_attribute(f"hitcounter.documents.{outcome.value}", documents)
            return results
