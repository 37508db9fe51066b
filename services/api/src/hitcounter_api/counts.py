"""Reading counts: how often an id was hit in each window, from Elasticsearch.

The five windows all end now, so each holds the shorter ones: they are read as five ranges that do not overlap and
added up here. Each day is asked by itself, in one request, since that tells a day that was never written (nobody was
counted: zero) from one that cannot be read (closed, forbidden, short of a shard: no answer at all). Elasticsearch's
own option to ignore what is not there cannot tell the two apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Final

from elasticsearch import AsyncElasticsearch
from hitcounter.elastic import translated
from hitcounter.errors import IndexUnavailable
from hitcounter.hits import DAY_MS, HOUR_MS, MINUTE_MS
from hitcounter.indices import indices_of_windows

WINDOWS: Final[Sequence[tuple[str, int]]] = (
    ("3 days ago", 3 * DAY_MS),
    ("2 days ago", 2 * DAY_MS),
    ("1 day ago", DAY_MS),
    ("1 hour ago", HOUR_MS),
    ("5 minutes ago", 5 * MINUTE_MS),
)
"""What is answered, in this order: the longest window first, each [now - length, now)."""

Counts = tuple[int, ...]
"""The hits in each of WINDOWS, or in each step of a history, weights included."""


@dataclass(frozen=True, slots=True)
class Steps:
    """What a history is made of: so many steps of one length, without gaps, the last of which ends now."""

    number: int
    length_ms: int


HISTORIES: Final[Mapping[str, Steps]] = {"minute": Steps(60, MINUTE_MS), "hour": Steps(72, HOUR_MS)}
"""What is answered, by the length of a step: the last hour, the last 3 days."""

_MISSING: Final = "index_not_found_exception"
_FILTER_PATH: Final = (
    "responses.status,responses.timed_out,responses._shards,responses.error.type,responses.error.reason,"
    "responses.aggregations.ranges.buckets.*.hits.value,"
    "responses.aggregations.steps.buckets.key,responses.aggregations.steps.buckets.hits.value"
)


class CountReader:
    """Reads counts with the client it is given, and does not close it."""

    def __init__(self, client: AsyncElasticsearch, index_prefix: str, *, timeout_seconds: float) -> None:
        self._client = client.options(request_timeout=timeout_seconds)
        self._index_prefix = index_prefix
        self._timeout_seconds = timeout_seconds

    async def read(self, id_: str, now_ms: int) -> Counts:
        """Return the hits of the id in each window that ends at now_ms.

        Raises:
            IndexUnavailable: any part of the answer is not to be had; there are no partial counts.
        """
        search = build_search(id_, now_ms, timeout_seconds=self._timeout_seconds)
        days = await self._search_days(search, now_ms, WINDOWS[0][1])
        return sum_windows([sum(ranges) for ranges in zip(*(read_day(*day) for day in days), strict=True)])

    async def read_history(self, id_: str, now_ms: int, steps: Steps) -> Counts:
        """Return the hits of the id in each step up to now_ms, the oldest first.

        Raises:
            IndexUnavailable: any part of the answer is not to be had.
        """
        search = build_history_search(id_, now_ms, steps, timeout_seconds=self._timeout_seconds)
        days = await self._search_days(search, now_ms, steps.number * steps.length_ms)
        return sum_steps([read_steps(*day) for day in days], now_ms, steps)

    async def _search_days(
        self, search: Mapping[str, object], now_ms: int, length_ms: int
    ) -> list[tuple[str, Mapping[str, Any]]]:
        """Ask each day that the window touches; return the days' indices and their answers."""
        indices = indices_of_windows(self._index_prefix, now_ms, length_ms)
        searches = [
            part for index in indices for part in ({"index": index, "allow_partial_search_results": False}, search)
        ]
        with translated("read the counts"):
            answer = await self._client.msearch(searches=searches, filter_path=_FILTER_PATH)
        return list(zip(indices, answer["responses"], strict=True))


def build_search(id_: str, now_ms: int, *, timeout_seconds: float) -> dict[str, object]:
    """Return the search for the id's hits in ranges that do not overlap, from the oldest to the newest."""
    edges_ms = [now_ms - length_ms for _, length_ms in WINDOWS] + [now_ms]
    ranges = [
        {"key": str(place), "from": from_ms, "to": to_ms} for place, (from_ms, to_ms) in enumerate(pairwise(edges_ms))
    ]
    date_range = {"field": "timestamp", "format": "epoch_millis", "keyed": True, "ranges": ranges}
    return _build_search(id_, edges_ms[0], now_ms, "ranges", {"date_range": date_range}, timeout_seconds)


def build_history_search(id_: str, now_ms: int, steps: Steps, *, timeout_seconds: float) -> dict[str, object]:
    """Return the search for the id's hits in steps that end now, and so begin at odd times."""
    histogram = {
        "field": "timestamp",
        "fixed_interval": f"{steps.length_ms}ms",
        "offset": f"{now_ms % steps.length_ms}ms",
        "min_doc_count": 1,
    }
    from_ms = now_ms - steps.number * steps.length_ms
    return _build_search(id_, from_ms, now_ms, "steps", {"date_histogram": histogram}, timeout_seconds)


def _build_search(
    id_: str, from_ms: int, to_ms: int, name: str, aggregation: Mapping[str, object], timeout_seconds: float
) -> dict[str, object]:
    window = {"gte": from_ms, "lt": to_ms, "format": "epoch_millis"}
    return {
        "size": 0,
        "track_total_hits": False,
        "timeout": f"{max(1, int(timeout_seconds * 1000))}ms",
        "query": {"bool": {"filter": [{"term": {"id": id_}}, {"range": {"timestamp": window}}]}},
        "aggs": {name: {**aggregation, "aggs": {"hits": {"sum": {"field": "n"}}}}},
    }


def read_day(index: str, answer: Mapping[str, Any]) -> Sequence[int]:
    """Return the hits in each range of one day's answer.

    Raises:
        IndexUnavailable: it is not the whole answer, and the day is not merely missing.
    """
    if is_missing(index, answer):
        return [0] * len(WINDOWS)
    buckets = answer["aggregations"]["ranges"]["buckets"]
    return [int(buckets[str(place)]["hits"]["value"]) for place in range(len(WINDOWS))]


def read_steps(index: str, answer: Mapping[str, Any]) -> Mapping[int, int]:
    """Return the hits of each step of one day's answer in which there were any, by when it begins, in milliseconds.

    Raises:
        IndexUnavailable: it is not the whole answer, and the day is not merely missing.
    """
    if is_missing(index, answer) or "aggregations" not in answer:  # filter_path leaves out what holds no bucket
        return {}
    return {bucket["key"]: int(bucket["hits"]["value"]) for bucket in answer["aggregations"]["steps"]["buckets"]}


def is_missing(index: str, answer: Mapping[str, Any]) -> bool:
    """Tell whether there is no such day.

    Raises:
        IndexUnavailable: there is, and this is not its whole answer.
    """
    if error := answer.get("error"):
        if error["type"] == _MISSING:
            return True
        raise IndexUnavailable(
            f"cannot read the counts of {index}: {error['type']}: {error.get('reason')}", status=answer["status"]
        )
    if answer["timed_out"]:
        raise IndexUnavailable(f"cannot read the counts of {index}: Elasticsearch ran out of time")
    if answer["_shards"]["failed"]:
        raise IndexUnavailable(f"cannot read the counts of {index}: {answer['_shards']['failed']} shards failed")
    return False


def sum_steps(days: Iterable[Mapping[int, int]], now_ms: int, steps: Steps) -> Counts:
    """Return the hits of each step, the oldest first; two days may each have a part of a step."""
    counts = [0] * steps.number
    for day in days:
        for begin_ms, hits in day.items():
            counts[steps.number - (now_ms - begin_ms) // steps.length_ms] += hits
    return tuple(counts)


def sum_windows(ranges: Sequence[int]) -> Counts:
    """Return the hits of each window from the hits of ranges that do not overlap, both with the oldest first."""
    return tuple(accumulate(reversed(ranges)))[::-1]
