"""A collector of traces: takes OTLP over HTTP, as a real one does, and keeps the spans."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class CollectedSpan:
    """One span as it was sent. Ids are hexadecimal; a span at the top has an empty parent."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    links: tuple[str, ...]
    """The ids of the spans it is linked to."""


class Collector:
    """Listens on a port of its own while the block runs."""

    def __init__(self) -> None:
        self.spans: list[CollectedSpan] = []
        collected = self.spans

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.path != "/v1/traces":
                    self.send_error(404)
                    return
                collected.extend(_read(ExportTraceServiceRequest.FromString(body)))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="collector")

    @property
    def url(self) -> str:
        """What HITCOUNTER_TRACING__ENDPOINT takes."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def of_trace(self, trace_id: str) -> dict[str, CollectedSpan]:
        """Return the spans of one trace by their names."""
        return {span.name: span for span in list(self.spans) if span.trace_id == trace_id}

    def lineage(self, span: CollectedSpan) -> list[CollectedSpan]:
        """Return the span, the one above it, and so on up to the first."""
        by_id = {other.span_id: other for other in list(self.spans)}
        lineage = [span]
        while lineage[-1].parent_id in by_id:
            lineage.append(by_id[lineage[-1].parent_id])
        return lineage


def _read(request: ExportTraceServiceRequest) -> list[CollectedSpan]:
    spans = []
    for resource in request.resource_spans:
        attributes = {item.key: item.value.string_value for item in resource.resource.attributes}
        for scope in resource.scope_spans:
            spans += [
                CollectedSpan(
                    attributes["service.name"],
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    tuple(link.span_id.hex() for link in span.links),
                )
                for span in scope.spans
            ]
    return spans
