"""One trace from a request to the bulk that made its hit countable, over the real queue, sent as OTLP over HTTP."""

from __future__ import annotations

import contextlib
import socket
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hitcounter_devstack import ElasticsearchServer, RedisServer, free_port

from tests.support.collector import Collector
from tests.support.stack import Api, Stack, wait_until

CALLER = "00f067aa0ba902b7"
"""The span of whoever sends the requests."""


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest.fixture(scope="module")
def api(
    redis_server: RedisServer,
    elasticsearch_server: ElasticsearchServer,
    collector: Collector,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Api]:
    """An API that draws no trace by itself, with an indexer behind it."""
    tracing = {
        "HITCOUNTER_TRACING__ENABLED": "true",
        "HITCOUNTER_TRACING__ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }
    with Stack(redis_server.url, elasticsearch_server.url, tmp_path_factory.mktemp("traces")) as stack:
        stack.indexer(tracing)
        yield stack.api(tracing, HITCOUNTER_TRACING__SAMPLE_RATIO="0")


def ask(api: Api, path: str, trace_id: str, body: bytes | None = None, *, flags: str = "01") -> None:
    """Ask the API within a trace."""
    headers = {"traceparent": f"00-{trace_id}-{CALLER}-{flags}"}
    with urllib.request.urlopen(urllib.request.Request(f"{api.url}{path}", body, headers), timeout=10) as answer:
        assert answer.status in (200, 204)


@pytest.mark.parametrize(
    ("path", "body"), [("/analytics", b'{"id":"a"}'), ("/analytics/batch", b'[{"id":"b"},{"id":"c"}]')]
)
def test_the_trace_of_a_request_leads_over_the_queue_to_its_bulk(
    api: Api, collector: Collector, path: str, body: bytes
) -> None:
    trace_id = f"4bf92f3577b34da6a3ce929d0e0e{len(path):04x}"
    ask(api, path, trace_id, body)
    wanted = {f"POST {path}", "accept", "index", "bulk"}
    spans = wait_until(lambda: collector.of_trace(trace_id), lambda spans: wanted <= spans.keys(), 60.0)
    accept, index, bulk = (spans[name] for name in ("accept", "index", "bulk"))
    lineage = collector.lineage(bulk)
    assert lineage[:3] == [bulk, index, accept]
    assert (lineage[-1].name, lineage[-1].parent_id) == (f"POST {path}", CALLER)
    assert accept.links == (accept.parent_id,)
    assert index.links == (accept.span_id,)
    assert [span.service for span in (accept, index)] == ["hitcounter-api", "hitcounter-indexer"]


def test_a_read_is_traced_down_to_its_search(api: Api, collector: Collector) -> None:
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    ask(api, "/analytics/a", trace_id)
    wait_until(
        lambda: {span.name for span in collector.spans if span.trace_id == trace_id},
        lambda names: "msearch" in names,
        60.0,
    )


@contextlib.contextmanager
def nobody() -> Iterator[int]:
    """A port at which nobody listens."""
    yield free_port()


@contextlib.contextmanager
def somebody_silent() -> Iterator[int]:
    """A port that lets everybody connect, and answers nobody."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize("listening", [nobody, somebody_silent])
def test_a_collector_that_is_away_or_silent_delays_neither_hits_nor_the_end(
    redis_server: RedisServer,
    elasticsearch_server: ElasticsearchServer,
    tmp_path: Path,
    listening: Callable[[], contextlib.AbstractContextManager[int]],
) -> None:
    with listening() as port, Stack(redis_server.url, elasticsearch_server.url, tmp_path) as stack:
        tracing = {
            "HITCOUNTER_TRACING__ENABLED": "true",
            "HITCOUNTER_TRACING__ENDPOINT": f"http://127.0.0.1:{port}",
            "HITCOUNTER_TRACING__SAMPLE_RATIO": "1",
        }
        indexer, api = stack.indexer(tracing), stack.api(tracing)
        for number in range(20):
            ask(api, "/analytics", f"4bf92f3577b34da6a3ce929d0e1e{number:04x}", b'{"id":"a"}')
        api.wait_drained()
        assert api.counts("a")["5 minutes ago"] == 20
        for service in (api.service, indexer):
            assert service.terminate(timeout_seconds=20) == 0


def test_what_nobody_traces_sends_nothing(api: Api, collector: Collector) -> None:
    trace_id, later_id = "4bf92f3577b34da6a3ce929d0e0e0001", "4bf92f3577b34da6a3ce929d0e0e0002"
    ask(api, "/analytics", trace_id, b'{"id":"a"}', flags="00")
    api.wait_drained()
    ask(api, "/analytics", later_id, b'{"id":"a"}')
    wait_until(lambda: collector.of_trace(later_id), lambda spans: "bulk" in spans, 60.0)
    assert collector.of_trace(trace_id) == {}
