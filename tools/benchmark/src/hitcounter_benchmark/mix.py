"""The requests to send: prepared requests with their hits, and their order. Pure.

Requests are prepared before the load starts, so that sending one is a lookup. A request has one hit, or in batch mode a
JSON array of many hits with ids drawn by the skew.
"""

import random
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, Literal

import orjson

from hitcounter_benchmark.target import Target

Skew = Literal["uniform", "zipf"]

_ORDER_LENGTH: Final = 1 << 17
"""Draws before the order repeats: enough that no cache can learn it, little enough to draw in a tenth of a second."""
_BATCHES: Final = 64
"""Different batch requests: together they hold many more draws than there are ids in any sensible run."""


@dataclass(frozen=True, slots=True)
class Mix:
    """Requests ready to be sent."""

    ids: Sequence[str]
    requests: Sequence[bytes]
    hits: Sequence[Mapping[str, int]]
    """For each request, the hits of each id that it carries."""
    order: "array[int]"
    """Indices of requests, in the order of sending, to be gone through again and again."""
    hits_per_request: int


def name_ids(name: str, number: int) -> list[str]:
    """Return the ids of a run: the name itself, or, for several, the name with a number behind it."""
    return [name] if number == 1 else [f"{name}-{position}" for position in range(number)]


def build_mix(target: Target, ids: Sequence[str], *, skew: Skew, batch: int | None, seed: int) -> Mix:
    """Build the requests for these ids; with ``batch``, each carries that many hits.

    The same arguments give the same mix: a run can be repeated.
    """
    draw = random.Random(seed)  # noqa: S311 -- load, not secrets
    cumulative_weights = list(accumulate(_weights(skew, len(ids))))
    if batch is None:
        order = array("L", draw.choices(range(len(ids)), cum_weights=cumulative_weights, k=_ORDER_LENGTH))
        requests = [target.post("/analytics", orjson.dumps({"id": name})) for name in ids]
        return Mix(ids, requests, [{name: 1} for name in ids], order, 1)
    drawn = [draw.choices(ids, cum_weights=cumulative_weights, k=batch) for _ in range(_BATCHES)]
    requests = [target.post("/analytics/batch", orjson.dumps([{"id": name} for name in names])) for names in drawn]
    return Mix(ids, requests, [Counter(names) for names in drawn], array("L", range(_BATCHES)), batch)


def _weights(skew: Skew, number: int) -> list[float]:
    """Uniform, or Zipf's law: the id of rank r is drawn 1/r as often as the first."""
    return [1.0] * number if skew == "uniform" else [1 / rank for rank in range(1, number + 1)]
