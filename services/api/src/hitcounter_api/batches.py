"""The hits of a batch body: a JSON array or NDJSON, all of them or none. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
from hitcounter.errors import InvalidHit
from hitcounter.hits import BATCH_MAX_HITS, Hit, read_hit

from hitcounter_api.problems import Kind, Problem, describe_fault


def read_hits(body: bytes, received_ms: int) -> list[Hit]:
    """Return the hits of the body, in its order.

    Raises:
        Problem: it is not JSON, holds too many hits or none, or lists all that break a rule.
    """
    items = parse_items(body)
    if not items:
        raise Problem(Kind.INVALID_BATCH, f"the batch is empty; it may have 1 to {BATCH_MAX_HITS:,} hits", {"value": 0})
    if len(items) > BATCH_MAX_HITS:
        raise Problem(
            Kind.TOO_LARGE,
            f"the batch has more than {BATCH_MAX_HITS:,} hits",
            {"value": len(items), "limit": BATCH_MAX_HITS},
        )
    hits = []
    faults = []
    for index, item in enumerate(items):
        try:
            hits.append(read_hit(item, received_ms))
        except InvalidHit as error:
            faults.append({"index": index, "detail": error.detail, **describe_fault(error, item)})
    if faults:
        raise Problem(
            Kind.INVALID_BATCH,
            f"{len(faults):,} of {len(items):,} hits break a rule; none was taken",
            {"errors": faults},
        )
    return hits


def parse_items(body: bytes) -> Sequence[object]:
    """Return the JSON values of the body: the items of an array, or the lines of NDJSON, blank ones left out.

    Raises:
        Problem: it is neither.
    """
    if body.lstrip(b" \t\r\n").startswith(b"["):
        try:
            items: list[object] = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise Problem(Kind.NOT_JSON, f"the body is not a JSON array: {error}") from error
        return items
    if not body.strip():
        raise Problem(Kind.NOT_JSON, "the body is empty; it should be a JSON array, or a JSON object on each line")
    return [_parse_line(number, line) for number, line in enumerate(body.split(b"\n"), 1) if line.strip()]


def _parse_line(number: int, line: bytes) -> object:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise Problem(Kind.NOT_JSON, f"line {number:,} of the body is not JSON: {error}") from error
