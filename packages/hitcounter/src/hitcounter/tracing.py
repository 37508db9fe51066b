"""OpenTelemetry tracing: creates spans and exports them. Optional.

    request (API) ──parent──▶ accept (API) ──traceparent in the hit batch──▶ index (indexer) ──parent──▶ bulk
                  ◀──links── one for each traced request              ◀──links── one for each traced batch

Many requests share a batch, and many batches share a bulk. A span has only one parent, so links connect them. In
addition the first traced request is the parent of its batch, and the first traced batch is the parent of its index
span. So the trace of at least one hit shows all of its way from the request to the bulk.

This module is imported only if tracing is enabled: see tracing.py of the API and of the indexer.
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
"""Maximum number of links of a span: a large batch has thousands of requests, and a few of them are enough."""

_EXPORT_SECONDS: Final = 3.0
"""Time limit for one export, including retries, and for exporting the last spans at shutdown."""
_PROPAGATOR: Final = TraceContextTextMapPropagator()


@contextlib.contextmanager
def open_tracer(service: str, settings: TracingSettings, *, sample_ratio: float) -> Iterator[Tracer]:
    """Return the tracer for our spans, and export all spans of this process while the block runs.

    Our code creates a span only if it is to be recorded, which costs less than a span that the sampler drops. Redis and
    Elasticsearch clients and the web framework create a span for every call; the sampler chooses among these.

    Args:
        service: the name of the service.
        settings: where the spans are sent.
        sample_ratio: the fraction of those clients' spans without a parent that is recorded.
    """
    with _open_exporter(settings) as processor:
        set_tracer_provider(build_provider(service, processor, sample_ratio=sample_ratio))
        yield get_tracer(build_provider(service, processor))


@contextlib.contextmanager
def _open_exporter(settings: TracingSettings) -> Iterator[SpanProcessor]:
    """Export spans that end while the block runs, in batches from a thread; at the end try to export the last ones."""
    exporter = OTLPSpanExporter(endpoint=f"{settings.endpoint.rstrip('/')}/v1/traces", timeout=_EXPORT_SECONDS)
    processor = BatchSpanProcessor(exporter)
    try:
        yield processor
    finally:
        # A collector that does not answer must not keep the process from exiting: after this time nothing is sent.
        give_up = threading.Timer(_EXPORT_SECONDS, exporter.shutdown)
        give_up.start()
        processor.shutdown()  # type: ignore[no-untyped-call]  # opentelemetry-sdk
        give_up.cancel()


def build_provider(service: str, processor: SpanProcessor, *, sample_ratio: float = 1.0) -> TracerProvider:
    """Return the tracer provider of a service.

    Args:
        service: the name of the service.
        processor: receives each span that ends.
        sample_ratio: the fraction of spans without a parent that is recorded. Other spans follow their parent.
    """
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(sample_ratio)),
        resource=Resource.create({"service.name": f"hitcounter-{service}", "service.version": __version__}),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(processor)
    return provider


def get_tracer(provider: TracerProvider) -> Tracer:
    """Return the provider's tracer for our own spans."""
    return provider.get_tracer("hitcounter", __version__)


def extract_context(traceparent: str, tracestate: str = "") -> Context:
    """Return the context of a W3C traceparent; an empty context if it is invalid."""
    return _PROPAGATOR.extract({"traceparent": traceparent, "tracestate": tracestate}, Context())


def extract_span_context(traceparent: str) -> SpanContext | None:
    """Return the span context of the traceparent; None if it is invalid or not sampled."""
    context = get_current_span(extract_context(traceparent)).get_span_context()
    return context if context.is_valid and context.trace_flags.sampled else None


def join(spans: Sequence[SpanContext]) -> tuple[Context, list[Link]]:
    """Return parent context and links for a span that belongs to several: the first is the parent, all are linked."""
    return set_span_in_context(NonRecordingSpan(spans[0]), Context()), [Link(span) for span in spans[:LINKS_MAX]]


def write_traceparent(span: Span) -> str:
    """Return the traceparent of the span."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, set_span_in_context(span, Context()))
    return carrier["traceparent"]
