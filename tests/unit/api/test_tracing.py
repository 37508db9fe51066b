"""Traces of the API: a span for a request that is traced, one for its batch, and nothing for anybody else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hitcounter.entries import Durability
from hitcounter.errors import HitcounterError
from hitcounter.hits import Hit
from hitcounter.tracing import LINKS_MAX
from hitcounter_api.hot_path import HotPath
from hitcounter_api.intake import Intake, Intakes
from hitcounter_api.listeners import open_answer
from hitcounter_api.problems import Problem
from hitcounter_api.tracing import TracingObserver
from opentelemetry.trace import SpanKind, StatusCode, use_span

from tests.support.tracing import (
    SPAN,
    TRACE,
    TRACEPARENT,
    UNRECORDED,
    Recorder,
    linked_ids,
    parent_id,
    span_id,
    trace_id,
)
from tests.unit.api.fakes import NOW_MS, PRODUCER, REFUSED, FakeStream, build_metrics


class Rig:
    """The hot path over an intake, both with an observer, and a stream that fails on demand."""

    def __init__(self, *, sample_ratio: float = 0.0, limit: int = 20_000) -> None:
        self.recorder = Recorder()
        self.stream = FakeStream()
        metrics, _ = build_metrics()
        observer = TracingObserver(self.recorder.tracer, sample_ratio=sample_ratio)
        self.intake = Intake(
            self.stream, metrics, producer=PRODUCER, limit=limit, budget_seconds=0.3, observer=observer
        )
        intakes = Intakes({Durability.MEMORY: self.intake}, Durability.MEMORY)
        self._hot_path = HotPath(intakes, metrics, lambda: NOW_MS, observer)

    def send(self, traceparent: str = "", body: bytes = b'{"id":"a"}') -> asyncio.Future[HitcounterError | None]:
        """Send one hit, and return its answer to await."""
        answer, listener = open_answer()
        headers = [(b"traceparent", traceparent.encode())] if traceparent else []
        self._hot_path.take(headers, body, listener)
        return answer


def requests_of(rig: Rig) -> Sequence[Any]:
    return rig.recorder.named("POST /analytics")


async def test_a_traced_request_has_a_span_below_its_caller_s_and_its_batch_one_below_that() -> None:
    rig = Rig()
    assert await rig.send(TRACEPARENT) is None
    accept, request = rig.recorder.named("accept")[0], requests_of(rig)[0]
    assert [trace_id(span) for span in (request, accept)] == [TRACE, TRACE]
    assert (parent_id(request), parent_id(accept)) == (SPAN, span_id(request))
    assert linked_ids(accept) == [span_id(request)]
    assert (request.kind, accept.kind) == (SpanKind.SERVER, SpanKind.PRODUCER)
    assert request.attributes["http.response.status_code"] == 204
    assert accept.attributes == {"hitcounter.hits": 1}


async def test_the_batch_of_a_traced_request_says_where_it_stands() -> None:
    rig = Rig()
    await rig.send(TRACEPARENT)
    accept = rig.recorder.named("accept")[0]
    assert rig.stream.accepted[0].traceparent == f"00-{TRACE}-{span_id(accept)}-01"


@pytest.mark.parametrize("traceparent", ["", UNRECORDED, "nonsense"])
async def test_a_request_that_nobody_traces_has_no_span_and_its_batch_is_as_without_traces(traceparent: str) -> None:
    rig = Rig()
    assert await rig.send(traceparent) is None
    assert rig.recorder.spans == []
    assert rig.stream.accepted[0].traceparent == ""


async def test_a_request_without_a_trace_of_its_own_is_drawn() -> None:
    rig = Rig(sample_ratio=1)
    await rig.send()
    assert parent_id(requests_of(rig)[0]) == ""
    assert rig.stream.accepted[0].traceparent != ""


async def test_a_batch_is_linked_to_its_traced_requests_alone_and_to_a_limited_number() -> None:
    rig = Rig()
    answers = [rig.send(traceparent) for _ in range(LINKS_MAX) for traceparent in (TRACEPARENT, UNRECORDED)]
    answers += [rig.send(TRACEPARENT) for _ in range(10)]
    await asyncio.gather(*answers)
    accept = rig.recorder.named("accept")[0]
    assert linked_ids(accept) == [span_id(request) for request in requests_of(rig)[:LINKS_MAX]]
    assert len(requests_of(rig)) == LINKS_MAX + 10
    assert len(rig.recorder.named("accept")) == 1


async def test_a_batch_behind_a_traced_one_is_not_taken_for_it() -> None:
    rig = Rig()
    release = asyncio.Event()
    rig.stream.steps.append(release.wait())  # type: ignore[arg-type]  # its result is not used
    first = rig.send(TRACEPARENT)
    await rig.stream.attempted.wait()
    second = rig.send()
    release.set()
    assert [await first, await second] == [None, None]
    assert [batch.traceparent != "" for batch in rig.stream.accepted] == [True, False]
    assert len(rig.recorder.named("accept")) == 1


async def test_hits_that_come_together_share_the_span_of_their_request() -> None:
    rig = Rig(sample_ratio=1)
    request = rig.recorder.tracer.start_span("POST /analytics/batch")
    with use_span(request):
        answer = rig.intake.add_all([Hit("a", NOW_MS), Hit("b", NOW_MS)])
    assert await answer is None
    accept = rig.recorder.named("accept")[0]
    assert linked_ids(accept) == [f"{request.get_span_context().span_id:016x}"]
    assert accept.attributes == {"hitcounter.hits": 2}


async def test_a_batch_that_is_given_up_is_an_error_and_so_are_its_request_and_those_behind_it() -> None:
    rig = Rig()
    rig.stream.trouble = REFUSED
    first = rig.send(TRACEPARENT)
    await rig.stream.attempted.wait()
    second = rig.send(TRACEPARENT)
    await asyncio.gather(first, second)
    assert [span.status.status_code for span in rig.recorder.spans] == [StatusCode.ERROR] * 3
    assert [request.attributes["http.response.status_code"] for request in requests_of(rig)] == [503, 503]
    assert len(rig.recorder.named("accept")) == 1
    rig.stream.trouble = None
    assert await rig.send() is None
    assert rig.stream.accepted[0].traceparent == ""


async def test_a_hit_that_breaks_a_rule_is_no_fault_of_the_server_and_has_no_batch() -> None:
    rig = Rig()
    assert isinstance(await rig.send(TRACEPARENT, b'{"id":""}'), Problem)
    assert [span.name for span in rig.recorder.spans] == ["POST /analytics"]
    assert requests_of(rig)[0].attributes["http.response.status_code"] == 422
    assert requests_of(rig)[0].status.status_code is StatusCode.UNSET


async def test_a_request_is_answered_even_if_no_span_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()

    def fail(*_: object) -> None:
        raise RuntimeError("a bug in the tracer")

    monkeypatch.setattr("hitcounter_api.tracing.read_context", fail)
    assert isinstance(await rig.send(TRACEPARENT), Problem)


async def test_a_request_is_answered_even_if_its_span_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    answer = rig.send(TRACEPARENT)

    def fail(*_: object) -> None:
        raise RuntimeError("a bug in the exporter")

    monkeypatch.setattr("opentelemetry.sdk.trace.Span.set_attribute", fail)
    assert await asyncio.wait_for(answer, 5) is None


async def test_a_hit_that_is_not_even_queued_leaves_nothing_behind() -> None:
    rig = Rig(limit=1)
    first, second = rig.send(), rig.send(TRACEPARENT)
    await asyncio.gather(first, second)
    assert [span.name for span in rig.recorder.spans] == ["POST /analytics"]
    assert requests_of(rig)[0].attributes["http.response.status_code"] == 503
    assert rig.stream.accepted[0].traceparent == ""
