"""Traces of the indexer: a span for a turn with traced entries, one for each of its bulks, and none for other turns."""

from __future__ import annotations

from dataclasses import replace

from hitcounter.codec import build_batch, encode
from hitcounter.entries import Entry
from hitcounter.hits import Hit
from hitcounter.tracing import LINKS_MAX
from hitcounter_indexer.indexer import Indexer
from hitcounter_indexer.tracing import TracingObserver
from opentelemetry.trace import SpanKind, StatusCode

from tests.support.tracing import TRACE, UNRECORDED, Recorder, linked_ids, parent_id, span_id, trace_id
from tests.unit.indexer.fakes import BUSY, NOW_MS, PRODUCER, SINK_AWAY, Rig, answers


def queue(rig: Rig, number: int, traceparent: str = "") -> Entry:
    """Queue an entry of one hit."""
    batch = replace(build_batch(PRODUCER, number, [Hit(f"id-{number}", NOW_MS)]), traceparent=traceparent)
    return rig.stream.add_entry(Entry(f"{number}-0", encode(batch), 1))


def recorded(number: int) -> str:
    """Return the place of a batch that the API traced."""
    return f"00-{TRACE}-{number:016x}-01"


def traced_indexer(rig: Rig, recorder: Recorder, **settings: float) -> Indexer:
    return rig.indexer(observer=TracingObserver(recorder.tracer), **settings)


async def test_a_cycle_begins_below_its_first_traced_entry_and_is_linked_to_each(rig: Rig) -> None:
    recorder = Recorder()
    queue(rig, 1)
    queue(rig, 2, recorded(2))
    queue(rig, 3, UNRECORDED)
    queue(rig, 4, recorded(4))
    await traced_indexer(rig, recorder).run_until_empty()
    bulk, index = recorder.spans
    assert (index.name, trace_id(index), parent_id(index)) == ("index", TRACE, f"{2:016x}")
    assert linked_ids(index) == [f"{2:016x}", f"{4:016x}"]
    assert index.kind is SpanKind.CONSUMER
    assert index.attributes == {"hitcounter.entries": 4, "hitcounter.hits": 4}
    assert (bulk.name, parent_id(bulk)) == ("bulk", span_id(index))
    assert bulk.attributes == {"hitcounter.documents": 4, "hitcounter.documents.indexed": 4}


async def test_a_cycle_without_traced_entries_has_no_span(rig: Rig) -> None:
    recorder = Recorder()
    queue(rig, 1)
    queue(rig, 2, UNRECORDED)
    await traced_indexer(rig, recorder).run_until_empty()
    assert recorder.spans == []
    assert rig.counts == {"id-1": 1, "id-2": 1}


async def test_a_cycle_has_a_limited_number_of_links(rig: Rig) -> None:
    recorder = Recorder()
    for number in range(1, LINKS_MAX + 10):
        queue(rig, number, recorded(number))
    indexer = traced_indexer(rig, recorder)
    await indexer.run_until_empty()
    assert max(len(index.links) for index in recorder.named("index")) <= LINKS_MAX
    assert sum(len(index.links) for index in recorder.named("index")) >= LINKS_MAX


async def test_an_entry_that_nobody_can_read_harms_no_trace(rig: Rig) -> None:
    recorder = Recorder()
    queue(rig, 1, recorded(1))
    rig.stream.add_entry(Entry("2-0", b"poison", 1))
    await traced_indexer(rig, recorder).run_until_empty()
    assert rig.counts == {"id-1": 1}
    assert linked_ids(recorder.named("index")[0]) == [f"{1:016x}"]


async def test_each_bulk_of_a_cycle_has_its_span_and_tells_what_became_of_its_documents(rig: Rig) -> None:
    recorder = Recorder()
    queue(rig, 1, recorded(1))
    rig.sink.failures.append(SINK_AWAY)
    rig.sink.rule = answers(BUSY, ids=["id-1"])
    await traced_indexer(rig, recorder).run_until_empty()
    bulks = recorder.named("bulk")
    assert [bulk.status.status_code for bulk in bulks] == [StatusCode.ERROR, StatusCode.UNSET, StatusCode.UNSET]
    assert [bulk.attributes for bulk in bulks] == [
        {"hitcounter.documents": 1},
        {"hitcounter.documents": 1, "hitcounter.documents.retry": 1},
        {"hitcounter.documents": 1, "hitcounter.documents.indexed": 1},
    ]
    assert {parent_id(bulk) for bulk in bulks} == {span_id(recorder.named("index")[0])}
