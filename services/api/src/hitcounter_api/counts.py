"""Reading counts: how often an id was hit in each window, from Elasticsearch.

The five windows all end now, so each holds the shorter ones: they are read as five ranges that do not overlap and
added up here. Each day is asked by itself, in one request, since that tells a day that was never written (nobody was
counted: zero) from one that cannot be read (closed, forbidden, short of a shard: no answer at all). Elasticsearch's
own option to ignore what is not there cannot tell the two apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
"""The hits in each of WINDOWS, weights included."""

_MISSING: Final = "index_not_found_exception"
_FILTER_PATH: Final = (
    "responses.status,responses.timed_out,responses._shards,responses.error.type,responses.error.reason,"
    "responses.aggregations.ranges.buckets.*.hits.value"
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
        indices = indices_of_windows(self._index_prefix, now_ms, WINDOWS[0][1])
        search = build_search(id_, now_ms, timeout_seconds=self._timeout_seconds)
        searches = [
            part for index in indices for part in ({"index": index, "allow_partial_search_results": False}, search)
        ]
        with translated("read the counts"):
            answer = await self._client.msearch(searches=searches, filter_path=_FILTER_PATH)
        days = [read_day(index, day) for index, day in zip(indices, answer["responses"], strict=True)]
        return sum_windows([sum(ranges) for ranges in zip(*days, strict=True)])


def build_search(id_: str, now_ms: int, *, timeout_seconds: float) -> dict[str, object]:
    """Return the search for the id's hits in ranges that do not overlap, from the oldest to the newest."""
    edges_ms = [now_ms - length_ms for _, length_ms in WINDOWS] + [now_ms]
    ranges = [
        {"key": str(place), "from": from_ms, "to": to_ms} for place, (from_ms, to_ms) in enumerate(pairwise(edges_ms))
    ]
    all_windows = {"gte": edges_ms[0], "lt": now_ms, "format": "epoch_millis"}
    return {
        "size": 0,
        "track_total_hits": False,
        "timeout": f"{max(1, int(timeout_seconds * 1000))}ms",
        "query": {"bool": {"filter": [{"term": {"id": id_}}, {"range": {"timestamp": all_windows}}]}},
        "aggs": {
            "ranges": {
                "date_range": {"field": "timestamp", "format": "epoch_millis", "keyed": True, "ranges": ranges},
                "aggs": {"hits": {"sum": {"field": "n"}}},
            }
        },
    }


def read_day(index: str, answer: Mapping[str, Any]) -> Sequence[int]:
    """Return the hits in each range of one day's answer.

    Raises:
        IndexUnavailable: it is not the whole answer, and the day is not merely missing.
    """
    if error := answer.get("error"):
        if error["type"] == _MISSING:
            return [0] * len(WINDOWS)
        raise IndexUnavailable(
            f"cannot read the counts of {index}: {error['type']}: {error.get('reason')}", status=answer["status"]
        )
    if answer["timed_out"]:
        raise IndexUnavailable(f"cannot read the counts of {index}: Elasticsearch ran out of time")
    if answer["_shards"]["failed"]:
        raise IndexUnavailable(f"cannot read the counts of {index}: {answer['_shards']['failed']} shards failed")
    buckets = answer["aggregations"]["ranges"]["buckets"]
    return [int(buckets[str(place)]["hits"]["value"]) for place in range(len(WINDOWS))]


def sum_windows(ranges: Sequence[int]) -> Counts:
    """Return the hits of each window from the hits of ranges that do not overlap, both with the oldest first."""
    return tuple(accumulate(reversed(ranges)))[::-1]
