"""Traces (OpenTelemetry), for whoever switches them on: how a part makes its spans, and how they leave.

    request (API) ──parent──▶ accept (API) ──the hit batch carries the place──▶ index (indexer) ──parent──▶ bulk
                  ◀──links── one for each traced request                 ◀──links── one for each traced batch

Many requests share a batch, and many batches a bulk: what joins them are links, since a span has one parent only. The
first traced request of a batch is its parent as well, and the first traced batch that of its turn, so that the trace of
at least one hit shows where the time went from its request to its bulk.

Nothing here is imported unless traces are on, and nothing on the path of a hit asks whether they are: a part that
traces is wired from other classes (the API's and the indexer's own tracing.py).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    Tracer,
    get_current_span,
    set_span_in_context,
    set_tracer_provider,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from hitcounter import __version__
from hitcounter.settings import TracingSettings

LINKS_MAX: Final = 64
"""Links of one span at most: a busy batch shares its fate with thousands of requests, and a few of them tell it."""

_EXPORT_SECONDS: Final = 3.0
"""How long the collector may take for one export, retries included; and how long the last spans are waited for."""
_PROPAGATOR: Final = TraceContextTextMapPropagator()


@contextlib.contextmanager
def open_tracer(service: str, settings: TracingSettings, *, sample_ratio: float) -> Iterator[Tracer]:
    """Return what makes our spans, and send all spans of this process while the block runs.

    Whoever has it asks it only for what is to be traced, as that costs less than to have a span refused. The clients of
    the stores and the web framework ask for everything, and are drawn.

    Args:
        service: the part's name.
        settings: where the spans go.
        sample_ratio: the share of those others' spans without a parent that are recorded.
    """
    with _open_exporter(settings) as processor:
        set_tracer_provider(build_provider(service, processor, sample_ratio=sample_ratio))
        yield get_tracer(build_provider(service, processor))


@contextlib.contextmanager
def _open_exporter(settings: TracingSettings) -> Iterator[SpanProcessor]:
    """Send the spans that end while the block runs, in batches from a thread; the last ones at its end, if they go."""
    exporter = OTLPSpanExporter(endpoint=f"{settings.endpoint.rstrip('/')}/v1/traces", timeout=_EXPORT_SECONDS)
    processor = BatchSpanProcessor(exporter)
    try:
        yield processor
    finally:
        # A collector that is away must not keep a process from ending: from then on nothing more is sent.
        give_up = threading.Timer(_EXPORT_SECONDS, exporter.shutdown)
        give_up.start()
        processor.shutdown()  # type: ignore[no-untyped-call]  # opentelemetry-sdk
        give_up.cancel()


def build_provider(service: str, processor: SpanProcessor, *, sample_ratio: float = 1.0) -> TracerProvider:
    """Return what makes the spans of a service.

    Args:
        service: the part's name.
        processor: is given each span that ends.
        sample_ratio: the share of spans without a parent that are recorded; the others do as their parent does.
    """
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(sample_ratio)),
        resource=Resource.create({"service.name": f"hitcounter-{service}", "service.version": __version__}),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(processor)
    return provider


def get_tracer(provider: TracerProvider) -> Tracer:
    """Return the provider's tracer for spans of ours."""
    return provider.get_tracer("hitcounter", __version__)


def extract_context(traceparent: str, tracestate: str = "") -> Context:
    """Return the place in a trace that W3C Trace Context describes; an empty one where it is none."""
    return _PROPAGATOR.extract({"traceparent": traceparent, "tracestate": tracestate}, Context())


def extract_span_context(traceparent: str) -> SpanContext | None:
    """Return the span that the traceparent names, None unless it is one that somebody records."""
    context = get_current_span(extract_context(traceparent)).get_span_context()
    return context if context.is_valid and context.trace_flags.sampled else None


def join(spans: Sequence[SpanContext]) -> tuple[Context, list[Link]]:
    """Return as what a span begins that belongs to several others: below the first, linked to each, up to a limit."""
    return set_span_in_context(NonRecordingSpan(spans[0]), Context()), [Link(span) for span in spans[:LINKS_MAX]]


def write_traceparent(span: Span) -> str:
    """Return the traceparent that names the span."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, set_span_in_context(span, Context()))
    return carrier["traceparent"]
