"""Places in traces, as they travel: read leniently, written so that others read them."""

from __future__ import annotations

import pytest
from hitcounter.tracing import LINKS_MAX, extract_context, extract_span_context, join, write_traceparent
from opentelemetry.trace import get_current_span

from tests.support.tracing import SPAN, TRACE, TRACEPARENT, UNRECORDED, Recorder, linked_ids, parent_id, trace_id


def test_a_place_that_is_written_is_the_one_that_is_read() -> None:
    span = Recorder().tracer.start_span("any")
    assert (
        extract_span_context(write_traceparent(span))
        == get_current_span(extract_context(write_traceparent(span))).get_span_context()
    )
    found = extract_span_context(write_traceparent(span))
    assert found is not None
    assert (found.trace_id, found.span_id) == (span.get_span_context().trace_id, span.get_span_context().span_id)


@pytest.mark.parametrize("text", ["", "nonsense", f"00-{'0' * 32}-{SPAN}-01", f"ff-{TRACE}-{SPAN}-01", "00-\xff"])
def test_what_is_no_place_in_a_trace_is_none(text: str) -> None:
    assert extract_span_context(text) is None
    assert not get_current_span(extract_context(text)).get_span_context().is_valid


def test_a_span_that_nobody_records_is_not_worth_a_link() -> None:
    assert extract_span_context(UNRECORDED) is None


def test_what_joins_spans_begins_below_the_first_and_is_linked_to_a_limited_number_of_them() -> None:
    recorder = Recorder()
    spans = [extract_span_context(f"00-{TRACE}-{number:016x}-01") for number in range(1, LINKS_MAX + 10)]
    context, links = join([span for span in spans if span is not None])
    recorder.tracer.start_span("joint", context, links=links).end()
    joint = recorder.spans[0]
    assert (trace_id(joint), parent_id(joint)) == (TRACE, f"{1:016x}")
    assert linked_ids(joint) == [f"{number:016x}" for number in range(1, LINKS_MAX + 1)]


def test_spans_without_a_parent_are_drawn_and_others_do_as_their_parent_does() -> None:
    nobody, everybody = Recorder(sample_ratio=0), Recorder(sample_ratio=1)
    for recorder in (nobody, everybody):
        for traceparent in ("", TRACEPARENT, UNRECORDED):
            recorder.tracer.start_span(traceparent, extract_context(traceparent)).end()
    assert [span.name for span in nobody.spans] == [TRACEPARENT]
    assert [span.name for span in everybody.spans] == ["", TRACEPARENT]


def test_spans_say_which_part_they_are_of() -> None:
    recorder = Recorder()
    recorder.tracer.start_span("any").end()
    assert recorder.spans[0].resource.attributes["service.name"] == "hitcounter-test"
