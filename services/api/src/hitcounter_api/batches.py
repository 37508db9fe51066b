"""Parses the body of a batch: a JSON array or NDJSON. All hits are accepted or none.

A body of 1 MiB contains up to half a million JSON values. Decoding and checking it at once would block the event loop,
and with it all other clients, for up to 0.2 s. So it is done in slices, with an iteration of the event loop after each
slice, and it stops as soon as there are too many hits. Callers check one large batch at a time: one slice of each of 32
batches in one iteration would take as long as a whole batch.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from io import BytesIO
from typing import Final

import orjson
from hitcounter.errors import InvalidHit
from hitcounter.hits import BATCH_MAX_HITS, Hit, read_hit

from hitcounter_api.problems import Kind, Problem, describe_fault

SLICE_MAX_HITS: Final = 256
SLICE_MAX_BYTES: Final = 64 * 1024
"""Maximum size that is decoded at once, and so of one JSON value. The worst case, only empty arrays, takes 2 ms."""

_BLANK: Final = rb"[ \t\r\n]*+"
_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_FLAT_OBJECT: Final = rb'\{[^"{}\[\]]*+(?:' + _STRING + rb'[^"{}\[\]]*+){0,64}+\}'
_SPACE = re.compile(_BLANK)
_ITEMS = re.compile(
    _FLAT_OBJECT + rb"(?:" + _BLANK + rb"," + _BLANK + _FLAT_OBJECT + rb"){0,%d}+" % (SLICE_MAX_HITS - 1), re.DOTALL
)
"""Where an array may be split: after complete JSON objects that contain no other objects, such as hits. orjson checks
their content."""


async def read_hits(body: bytes, received_ms: int) -> list[Hit]:
    """Return the hits of the body, in the same order.

    Raises:
        Problem: the body is not JSON, has no hits or too many, or some hits are invalid (the problem lists them all).
    """
    hits: list[Hit] = []
    faults: list[dict[str, object]] = []
    for items in split(body):
        first = len(hits) + len(faults)
        if first + len(items) > BATCH_MAX_HITS:
            raise Problem(Kind.TOO_LARGE, f"the batch has more than {BATCH_MAX_HITS:,} hits", {"limit": BATCH_MAX_HITS})
        for index, item in enumerate(items, first):
            try:
                hits.append(read_hit(item, received_ms))
            except InvalidHit as error:
                faults.append({"index": index, "detail": error.detail, **describe_fault(error, item)})
        await asyncio.sleep(0)
    if faults:
        raise Problem(
            Kind.INVALID_BATCH,
            f"{len(faults):,} of {len(hits) + len(faults):,} hits break a rule; none was accepted",
            {"errors": faults},
        )
    if not hits:
        raise Problem(Kind.INVALID_BATCH, f"the batch is empty; it may have 1 to {BATCH_MAX_HITS:,} hits", {"value": 0})
    return hits


def split(body: bytes) -> Iterator[list[object]]:
    """Yield the JSON values of the body in slices: the items of an array, or the lines of NDJSON without blank ones.

    Raises:
        Problem: the body is neither.
    """
    start = _end_of_space(body, 0)
    if start == len(body):
        raise Problem(Kind.NOT_JSON, "the body is empty; it must be a JSON array, or NDJSON with one object per line")
    return _split_array(body, start + 1) if body.startswith(b"[", start) else _split_lines(body)


def _split_array(body: bytes, at: int) -> Iterator[list[object]]:
    """Yield the items from that position on, which is after the opening bracket."""
    number = 0
    while len(body) - at > SLICE_MAX_BYTES:
        at = _end_of_space(body, at)
        match = _ITEMS.match(body, at, at + SLICE_MAX_BYTES)
        if match is None:
            break
        items = _decode_items(match[0] + b"]", at)
        number += len(items)
        yield items
        at = _end_of_space(body, match.end())
        if body.startswith(b"]", at):
            if _end_of_space(body, at + 1) < len(body):
                raise _not_an_array("there is data after its end", at)
            return
        if not body.startswith(b",", at):
            raise _not_an_array("a comma is missing", at)
        at += 1
    if len(body) - at > SLICE_MAX_BYTES:
        detail = f"a hit is a JSON object without nested objects, of at most {SLICE_MAX_BYTES:,} bytes"
        raise Problem(
            Kind.INVALID_BATCH,
            f"item {number:,} is not a hit, and the rest was not read; none was accepted",
            {"errors": [{"index": number, "detail": detail}]},
        )
    items = _decode_items(body[at:], at)
    if number and not items:
        raise _not_an_array("an item is missing after the comma", at)
    for first in range(0, len(items), SLICE_MAX_HITS):
        yield items[first : first + SLICE_MAX_HITS]


def _split_lines(body: bytes) -> Iterator[list[object]]:
    items: list[object] = []
    size_bytes = 0
    for number, line in enumerate(BytesIO(body), 1):
        if len(line) > SLICE_MAX_BYTES:
            limit = {"limit": SLICE_MAX_BYTES}
            raise Problem(Kind.TOO_LARGE, f"line {number:,} of the body has more than {SLICE_MAX_BYTES:,} bytes", limit)
        if size_bytes + len(line) > SLICE_MAX_BYTES or len(items) == SLICE_MAX_HITS:
            yield items
            items = []
            size_bytes = 0
        size_bytes += len(line)
        if line.strip():
            items.append(_decode_line(number, line))
    yield items


def _decode_items(text: bytes, at: int) -> list[object]:
    """Decode items and the closing bracket after them; they start at that byte of the body."""
    try:
        items: list[object] = orjson.loads(b"[" + text)
    except orjson.JSONDecodeError as error:
        raise _not_an_array(error.msg, at + max(error.pos - 1, 0)) from error
    return items


def _decode_line(number: int, line: bytes) -> object:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise Problem(Kind.NOT_JSON, f"line {number:,} of the body is not JSON: {error}") from error


def _not_an_array(fault: str, at: int) -> Problem:
    return Problem(Kind.NOT_JSON, f"the body is not a JSON array: {fault}, at byte {at:,}")


def _end_of_space(body: bytes, at: int) -> int:
    match = _SPACE.match(body, at)
    return at if match is None else match.end()
