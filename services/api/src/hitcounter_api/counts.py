"""Reads counts from Elasticsearch: how often an id was hit in each window.

All five windows end now, so each one contains the shorter ones. They are read as five ranges that do not overlap, and
added up here. Each day has its own search within one request. This distinguishes a day without any hits (its index does
not exist: the count is 0) from a day that cannot be read (closed, forbidden, a missing shard: an error). The option of
Elasticsearch to ignore missing indices cannot distinguish the two.

A past day is searched in parts: its whole hours, with a query that is the same for an hour, so that Elasticsearch
answers from its request cache until the day gets another hit; and the hours that contain the start of a window. So a
read of an id with millions of hits costs only those of today.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise
from typing import Any, Final, NamedTuple

from elasticsearch import AsyncElasticsearch
from hitcounter.elastic import translate_elasticsearch_errors
from hitcounter.errors import IndexUnavailable
from hitcounter.hits import DAY_MS, HOUR_MS, MINUTE_MS
from hitcounter.indices import index_of, indices_of_windows

WINDOWS: Final[Sequence[tuple[str, int]]] = (
    ("3 days ago", 3 * DAY_MS),
    ("2 days ago", 2 * DAY_MS),
    ("1 day ago", DAY_MS),
    ("1 hour ago", HOUR_MS),
    ("5 minutes ago", 5 * MINUTE_MS),
)
"""The windows in the order of the response: the longest first, each [now - length, now)."""

Counts = tuple[int, ...]
"""The hits in each of WINDOWS, or in each step of a history, weights included."""


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of a history: a number of steps of one length, without gaps; the last one ends now."""

    number: int
    length_ms: int


HISTORIES: Final[Mapping[str, Steps]] = {"minute": Steps(60, MINUTE_MS), "hour": Steps(72, HOUR_MS)}
"""The histories by the length of a step: the last hour, the last 3 days."""


class Range(NamedTuple):
    """A time range that does not include its end."""

    window: int
    """The index in WINDOWS of the shortest window that contains it."""
    from_ms: int
    to_ms: int


@dataclass(frozen=True, slots=True)
class Part:
    """The ranges of one search, all of one day, from the oldest to the newest.

    Attributes:
        is_repeated: the next read will use the same query.
    """

    index: str
    ranges: Sequence[Range]
    is_repeated: bool


_MISSING: Final = "index_not_found_exception"
_FILTER_PATH: Final = (
    "responses.status,responses.timed_out,responses._shards,responses.error.type,responses.error.reason,"
    "responses.aggregations.ranges.buckets.*.hits.value,"
    "responses.aggregations.steps.buckets.key,responses.aggregations.steps.buckets.hits.value"
)


class CountReader:
    """Reads counts with a client that the caller owns and closes."""

    def __init__(self, client: AsyncElasticsearch, index_prefix: str, *, timeout_seconds: float) -> None:
        self._client = client.options(request_timeout=timeout_seconds)
        self._index_prefix = index_prefix
        self._timeout_seconds = timeout_seconds

    async def read(self, id_: str, now_ms: int) -> Counts:
        """Return the hits of the id in each window that ends at now_ms.

        Raises:
            IndexUnavailable: some part cannot be read; there are no partial counts.
        """
        parts = split_windows(self._index_prefix, now_ms)
        headers = [build_header(part.index, is_repeated=part.is_repeated) for part in parts]
        searches = [build_search(id_, part, timeout_seconds=self._timeout_seconds) for part in parts]
        answers = await self._ask(headers, searches)
        found = [read_part(part, answer) for part, answer in zip(parts, answers, strict=True)]
        return sum_windows([sum(ranges) for ranges in zip(*found, strict=True)])

    async def read_history(self, id_: str, now_ms: int, steps: Steps) -> Counts:
        """Return the hits of the id in each step up to now_ms, the oldest first.

        Raises:
            IndexUnavailable: some part cannot be read.
        """
        search = build_history_search(id_, now_ms, steps, timeout_seconds=self._timeout_seconds)
        indices = indices_of_windows(self._index_prefix, now_ms, steps.number * steps.length_ms)
        answers = await self._ask(map(build_header, indices), [search] * len(indices))
        return sum_steps([read_steps(*day) for day in zip(indices, answers, strict=True)], now_ms, steps)

    async def _ask(
        self, headers: Iterable[Mapping[str, object]], searches: Iterable[Mapping[str, object]]
    ) -> list[Mapping[str, Any]]:
        """Send all searches in one request; return the responses in the same order."""
        lines = [line for pair in zip(headers, searches, strict=True) for line in pair]
        with translate_elasticsearch_errors("read the counts"):
            answer = await self._client.msearch(searches=lines, filter_path=_FILTER_PATH)
        return list(answer["responses"])


def split_windows(prefix: str, now_ms: int) -> list[Part]:
    """Return the parts in which the windows that end now are read. Together they cover each moment once."""
    edges_ms = [now_ms - length_ms for _, length_ms in WINDOWS] + [now_ms]
    ranges = [Range(window, from_ms, to_ms) for window, (from_ms, to_ms) in enumerate(pairwise(edges_ms))]
    parts: list[Part] = []
    for day in range(edges_ms[0] // DAY_MS, (now_ms - 1) // DAY_MS + 1):
        begin_ms, end_ms = day * DAY_MS, (day + 1) * DAY_MS
        index, of_day = index_of(prefix, begin_ms), _clip(ranges, begin_ms, end_ms)
        parts += _split_day(index, of_day) if end_ms <= now_ms else [Part(index, of_day, is_repeated=False)]
    return parts


def _split_day(index: str, ranges: Sequence[Range]) -> Iterator[Part]:
    """Yield the whole hours of a past day, and each hour that contains the start of a window."""
    whole: list[Range] = []
    rest: list[Range] = []
    for window, from_ms, to_ms in ranges:
        first_ms, last_ms = -(-from_ms // HOUR_MS) * HOUR_MS, to_ms // HOUR_MS * HOUR_MS
        whole += _clip([Range(window, first_ms, last_ms)], from_ms, to_ms)
        ends = [Range(window, from_ms, first_ms), Range(window, max(first_ms, last_ms), to_ms)]
        rest += _clip(ends, from_ms, to_ms)
    if whole:
        yield Part(index, whole, is_repeated=True)
    for _, hour in groupby(rest, key=lambda one: one.from_ms // HOUR_MS):
        yield Part(index, list(hour), is_repeated=False)


def _clip(ranges: Iterable[Range], begin_ms: int, end_ms: int) -> list[Range]:
    """Return the parts of the ranges that are within these bounds."""
    clipped = [Range(window, max(from_ms, begin_ms), min(to_ms, end_ms)) for window, from_ms, to_ms in ranges]
    return [one for one in clipped if one.from_ms < one.to_ms]


def build_header(index: str, *, is_repeated: bool = False) -> dict[str, object]:
    """Return the header line of a search. Only a query that is repeated uses the request cache."""
    return {"index": index, "allow_partial_search_results": False, "request_cache": is_repeated}


def build_search(id_: str, part: Part, *, timeout_seconds: float) -> dict[str, object]:
    """Return the search for the id's hits in each range of a part."""
    ranges = [{"key": str(place), "from": one.from_ms, "to": one.to_ms} for place, one in enumerate(part.ranges)]
    date_range = {"field": "timestamp", "format": "epoch_millis", "keyed": True, "ranges": ranges}
    from_ms, to_ms = part.ranges[0].from_ms, part.ranges[-1].to_ms
    return _build_search(id_, from_ms, to_ms, "ranges", {"date_range": date_range}, timeout_seconds)


def build_history_search(id_: str, now_ms: int, steps: Steps, *, timeout_seconds: float) -> dict[str, object]:
    """Return the search for the id's hits in steps that end now, and so do not start at full minutes or hours."""
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


def read_part(part: Part, answer: Mapping[str, Any]) -> list[int]:
    """Return the hits of a part, by the ranges that make up the windows.

    Raises:
        IndexUnavailable: the response is incomplete, and the reason is not a day without hits.
    """
    hits = [0] * len(WINDOWS)
    if not is_missing(part.index, answer):
        buckets = answer["aggregations"]["ranges"]["buckets"]
        for place, one in enumerate(part.ranges):
            hits[one.window] += int(buckets[str(place)]["hits"]["value"])
    return hits


def read_steps(index: str, answer: Mapping[str, Any]) -> Mapping[int, int]:
    """Return the hits of each step of one day that has any, by the start of the step in milliseconds.

    Raises:
        IndexUnavailable: the response is incomplete, and the reason is not a day without hits.
    """
    if is_missing(index, answer) or "aggregations" not in answer:  # filter_path leaves out what holds no bucket
        return {}
    return {bucket["key"]: int(bucket["hits"]["value"]) for bucket in answer["aggregations"]["steps"]["buckets"]}


def is_missing(index: str, answer: Mapping[str, Any]) -> bool:
    """Return whether the index of the day does not exist.

    Raises:
        IndexUnavailable: it exists, and the response is incomplete.
    """
    if error := answer.get("error"):
        if error["type"] == _MISSING:
            return True
        raise IndexUnavailable(
            "cannot read the counts: the index of a day failed",
            cause=f"{index}: {error['type']}: {error.get('reason')}",
            status=answer["status"],
        )
    if answer["timed_out"]:
        raise IndexUnavailable("cannot read the counts: the search of Elasticsearch timed out", cause=index)
    if answer["_shards"]["failed"]:
        cause = f"{index}: {answer['_shards']['failed']} shards failed"
        raise IndexUnavailable("cannot read the counts: the index of a day failed", cause=cause)
    return False


def sum_steps(days: Iterable[Mapping[int, int]], now_ms: int, steps: Steps) -> Counts:
    """Return the hits of each step, the oldest first. A step may be split between two days."""
    counts = [0] * steps.number
    for day in days:
        for begin_ms, hits in day.items():
            counts[steps.number - (now_ms - begin_ms) // steps.length_ms] += hits
    return tuple(counts)


def sum_windows(ranges: Sequence[int]) -> Counts:
    """Return the hits of each window from the hits of ranges that do not overlap, both the oldest first."""
    return tuple(accumulate(reversed(ranges)))[::-1]
