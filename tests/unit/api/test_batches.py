"""A batch body: a JSON array or NDJSON, all of its hits or none."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator
from unittest.mock import patch

import orjson
import pytest
from hitcounter.hits import BATCH_MAX_HITS, DOT_SEGMENTS
from hitcounter_api import batches
from hitcounter_api.batches import SLICE_MAX_BYTES, read_hits
from hitcounter_api.problems import Kind, Problem
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.api.fakes import NOW_MS

ids = st.lists(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
        lambda id_: id_ not in DOT_SEGMENTS
    ),
    min_size=1,
    max_size=20,
)


async def problem_of_batch(body: bytes) -> Problem:
    with pytest.raises(Problem) as caught:
        await read_hits(body, NOW_MS)
    return caught.value


@given(ids, st.booleans())
async def test_an_array_and_its_lines_are_the_same_hits(ids: list[str], ends_with_newline: bool) -> None:
    items = [{"id": id_, "weight": place + 1} for place, id_ in enumerate(ids)]
    lines = b"\n".join(map(orjson.dumps, items)) + b"\n" * ends_with_newline
    hits = await read_hits(orjson.dumps(items), NOW_MS)
    assert hits == await read_hits(lines, NOW_MS)
    assert [hit.id for hit in hits] == ids


async def test_blank_lines_and_carriage_returns_are_left_out() -> None:
    assert [hit.id for hit in await read_hits(b'\r\n{"id":"a"}\r\n\r\n  \n{"id":"b"}', NOW_MS)] == ["a", "b"]


async def test_every_bad_hit_is_listed_by_its_place() -> None:
    problem = await problem_of_batch(b'[{"id":"a"}, {"id":""}, 7, {"id":"b","weight":0}, {"id":"c","colour":"red"}]')
    assert problem.kind is Kind.INVALID_BATCH
    errors = problem.members["errors"]
    assert isinstance(errors, list)
    assert [(error["index"], error.get("field"), error.get("value")) for error in errors] == [
        (1, "id", ""),
        (2, None, 7),
        (3, "weight", 0),
        (4, "colour", "red"),
    ]
    assert problem.detail.startswith("4 of 5 hits")


@pytest.mark.parametrize("body", [b"", b"  \n ", b"hello", b"[1", b'{"id":"a"}\n{"id"', b"\xff", b'[{"id":"\xff"}]'])
async def test_what_is_not_json_is_said_to_be_not_json(body: bytes) -> None:
    assert (await problem_of_batch(body)).kind is Kind.NOT_JSON


async def test_a_bad_line_is_named_by_its_number() -> None:
    assert "line 3 " in (await problem_of_batch(b'{"id":"a"}\n\n{"id"\n')).detail


async def test_an_empty_array_has_nothing_to_take() -> None:
    assert (await problem_of_batch(b"[]")).kind is Kind.INVALID_BATCH


async def test_ten_thousand_hits_are_taken_and_one_more_is_too_large() -> None:
    assert len(await read_hits(orjson.dumps([{"id": "a"}] * BATCH_MAX_HITS), NOW_MS)) == BATCH_MAX_HITS
    problem = await problem_of_batch(orjson.dumps([{"id": "a"}] * (BATCH_MAX_HITS + 1)))
    assert problem.kind is Kind.TOO_LARGE
    assert problem.members == {"limit": BATCH_MAX_HITS}


# ── large ones ──────────────────────────────────────────────────────────────────────────────────────────────────────

MEBIBYTE = 1024 * 1024
LONG_ID = b'{"id":"' + b"x" * 500 + b'"}'


@given(
    st.lists(st.text('ab{}[],:"\\ \néx', min_size=1, max_size=60), min_size=1, max_size=40),
    st.sampled_from([b",", b" ,", b",\n", b"\r\n\t,  "]),
    st.booleans(),
)
async def test_an_array_that_is_read_in_slices_has_the_hits_that_it_has_as_a_whole(
    ids: list[str], comma: bytes, is_indented: bool
) -> None:
    option = orjson.OPT_INDENT_2 if is_indented else None
    body = b" [" + comma.join(orjson.dumps({"id": id_, "weight": 2}, option=option) for id_ in ids) + b" ] "
    with patch.object(batches, "SLICE_MAX_BYTES", 300):
        assert [hit.id for hit in await read_hits(body, NOW_MS)] == ids


@given(
    st.lists(st.sampled_from([b'{"id":"a"}', b'{"id":"b,}"}', b"[", b"]", b"{", b"}", b",", b'"', b"\\", b" ", b"{}"]))
)
async def test_an_array_that_is_taken_in_slices_would_be_taken_as_a_whole(pieces: list[bytes]) -> None:
    body = b'[{"id":"first"},' + b"".join(pieces) + b"]"
    with patch.object(batches, "SLICE_MAX_BYTES", 20):
        try:
            hits = await read_hits(body, NOW_MS)
        except Problem:
            return
    assert [{"id": hit.id} for hit in hits] == orjson.loads(body)


@pytest.mark.parametrize("end", [b"", b",", b",]", b"]]", b"] x", b" {}]", b",7,]"])
@pytest.mark.parametrize("number", [1, 250])
async def test_a_large_array_that_ends_wrongly_is_not_json(end: bytes, number: int) -> None:
    body = b"[" + b",".join([LONG_ID] * number) + end
    assert (await problem_of_batch(body)).kind is Kind.NOT_JSON


async def test_a_large_array_names_the_byte_at_which_it_is_not_json() -> None:
    body = b"[" + b",".join([LONG_ID] * 250 + [b'{"id":x}'] + [LONG_ID] * 250) + b"]"
    problem = await problem_of_batch(body)
    assert problem.kind is Kind.NOT_JSON
    assert f"byte {body.index(b'x}'):,}" in problem.detail


@pytest.mark.parametrize("item", [b"[]", b'{"id":{}}', b"7", b'{"id":"' + b"x" * SLICE_MAX_BYTES + b'"}'])
async def test_a_large_array_is_read_up_to_what_cannot_be_a_hit(item: bytes) -> None:
    problem = await problem_of_batch(b"[" + b",".join([LONG_ID] * 250 + [item] + [LONG_ID] * 250) + b"]")
    assert problem.kind is Kind.INVALID_BATCH
    errors = problem.members["errors"]
    assert isinstance(errors, list)
    assert [error["index"] for error in errors] == [250]


async def test_a_line_longer_than_what_is_decoded_at_once_is_too_large() -> None:
    problem = await problem_of_batch(b'{"id":"a"}\n{"id":"' + b"x" * SLICE_MAX_BYTES + b'"}')
    assert (problem.kind, problem.members) == (Kind.TOO_LARGE, {"limit": SLICE_MAX_BYTES})
    assert problem.detail.startswith("line 2 ")


def fill(unit: bytes, begin: bytes = b"", end: bytes = b"") -> bytes:
    """Return a body of as good as one mebibyte."""
    return begin + unit * ((MEBIBYTE - len(begin) - len(end)) // len(unit)) + end


GOOD = b'{"id":"page/%05d","timestamp":"2026-11-24T08:00:00Z","weight":3,"key":"%032d"}'
LARGE_BODIES = {
    "lines of 1": fill(b"1\n"),
    "blank lines": fill(b"\n", end=b"1"),
    "lines of arrays": fill(b"[" + b"[]," * 1300 + b"[]]\n"),
    "one line": fill(b"1,", b"{}\n[", b"1]"),
    "ones": fill(b"1,", b"[", b"1]"),
    "objects": fill(b"{},", b"[", b"{}]"),
    "arrays": fill(b"[],", b"[", b"[]]"),
    "strings": fill(b'"",', b"[", b'""]'),
    "one object": fill(b'"":1,', b"[{", b'"":1}]'),
    "escapes": fill(b"\\n", b'[{"id":"', b'"}]'),
    "brackets": fill(b"["),
    "bad hits": b"[" + b",".join([b'{"id":""}'] * BATCH_MAX_HITS) + b"]",
    "good array": b"[" + b",".join([GOOD % (number, number) for number in range(BATCH_MAX_HITS)]) + b"]",
    "good lines": b"\n".join([GOOD % (number, number) for number in range(BATCH_MAX_HITS)]),
}


@pytest.fixture
def frozen_heap() -> Iterator[None]:
    """Keep the collector from looking at all of pytest's objects; the process freezes its own when it has started."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("body", LARGE_BODIES.values(), ids=LARGE_BODIES)
@pytest.mark.usefixtures("frozen_heap")
async def test_no_batch_keeps_the_loop_for_longer_than_ten_milliseconds(body: bytes) -> None:
    stalls: list[float] = []

    async def watch() -> None:
        while True:
            started = time.thread_time()  # of this thread's own work: a busy machine makes it no longer
            await asyncio.sleep(0)
            stalls.append(time.thread_time() - started)

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0)
    try:
        await read_hits(body, NOW_MS)
    except Problem as problem:
        problem.render()
    await asyncio.sleep(0)
    watching.cancel()
    assert max(stalls) < 0.010
