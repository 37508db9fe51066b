"""Spans kept in memory, for tests of what is traced."""

from __future__ import annotations

from hitcounter.tracing import build_provider, get_tracer
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"
"""A span that somebody else records."""
UNRECORDED = f"00-{TRACE}-{SPAN}-00"
"""A span that nobody records."""


class Recorder:
    """A tracer and what it has recorded."""

    def __init__(self, *, sample_ratio: float = 1.0) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = build_provider("test", SimpleSpanProcessor(self._exporter), sample_ratio=sample_ratio)
        self.tracer = get_tracer(self.provider)

    @property
    def spans(self) -> list[ReadableSpan]:
        """The spans that have ended, in the order of their ends."""
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        """Return those of that name."""
        return [span for span in self.spans if span.name == name]


def context_of(span: ReadableSpan) -> SpanContext:
    """Return what names the span."""
    context = span.get_span_context()
    assert context is not None
    return context


def parent_id(span: ReadableSpan) -> str:
    """Return the id of the span that this one is below; empty for none."""
    return "" if span.parent is None else f"{span.parent.span_id:016x}"


def span_id(span: ReadableSpan) -> str:
    """Return the id of the span."""
    return f"{context_of(span).span_id:016x}"


def trace_id(span: ReadableSpan) -> str:
    """Return the id of the trace that the span belongs to."""
    return f"{context_of(span).trace_id:032x}"


def linked_ids(span: ReadableSpan) -> list[str]:
    """Return the ids of the spans that this one is linked to."""
    return [f"{link.context.span_id:016x}" for link in span.links]
