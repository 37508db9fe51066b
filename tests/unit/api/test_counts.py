"""Windows: what is asked, how it is added up, and which answers are none."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hitcounter.errors import IndexUnavailable
from hitcounter.hits import DAY_MS
from hitcounter_api.counts import (
    HISTORIES,
    WINDOWS,
    Steps,
    build_history_search,
    build_search,
    read_day,
    read_steps,
    sum_steps,
    sum_windows,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.api.fakes import NOW_MS

EDGES_MS = sorted({offset for _, length_ms in WINDOWS for offset in (length_ms - 1, length_ms, length_ms + 1)} | {0, 1})

ages_ms = st.one_of(st.sampled_from(EDGES_MS), st.integers(-DAY_MS, 4 * DAY_MS))


def ranges_of(now_ms: int) -> list[tuple[int, int]]:
    search: Any = build_search("id", now_ms, timeout_seconds=1)
    ranges = search["aggs"]["ranges"]["date_range"]["ranges"]
    return [(one["from"], one["to"]) for one in ranges]


@given(st.integers(10 * DAY_MS, 10**14), st.lists(st.tuples(ages_ms, st.integers(1, 1_000_000)), max_size=40))
def test_windows_hold_exactly_what_a_plain_count_finds(now_ms: int, hits: list[tuple[int, int]]) -> None:
    placed = [(now_ms - age_ms, weight) for age_ms, weight in hits]
    in_ranges = [
        sum(weight for time_ms, weight in placed if from_ms <= time_ms < to_ms) for from_ms, to_ms in ranges_of(now_ms)
    ]
    expected = tuple(
        sum(weight for time_ms, weight in placed if now_ms - length_ms <= time_ms < now_ms) for _, length_ms in WINDOWS
    )
    assert sum_windows(in_ranges) == expected


def test_ranges_do_not_overlap_and_leave_no_gap() -> None:
    ranges = ranges_of(NOW_MS)
    assert ranges[0][0] == NOW_MS - 3 * DAY_MS
    assert ranges[-1][1] == NOW_MS
    assert all(before[1] == after[0] for before, after in pairwise(ranges))


def test_windows_are_named_and_ordered_as_promised() -> None:
    assert [reference for reference, _ in WINDOWS] == [
        "3 days ago",
        "2 days ago",
        "1 day ago",
        "1 hour ago",
        "5 minutes ago",
    ]


WHOLE: dict[str, Any] = {
    "status": 200,
    "timed_out": False,
    "_shards": {"total": 1, "successful": 1, "skipped": 0, "failed": 0},
    "aggregations": {"ranges": {"buckets": {str(place): {"hits": {"value": place + 0.0}} for place in range(5)}}},
}


def test_a_whole_answer_is_read_in_its_order() -> None:
    assert read_day("hits-2026.11.24", WHOLE) == [0, 1, 2, 3, 4]


def test_a_missing_day_counts_zero() -> None:
    missing = {"status": 404, "error": {"type": "index_not_found_exception", "reason": "no such index"}}
    assert read_day("hits-2026.11.24", missing) == [0, 0, 0, 0, 0]


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 400, "error": {"type": "index_closed_exception", "reason": "closed"}},
        {"status": 403, "error": {"type": "security_exception", "reason": "not yours"}},
        {"status": 503, "error": {"type": "search_phase_execution_exception", "reason": "all shards failed"}},
        WHOLE | {"timed_out": True},
        WHOLE | {"_shards": {"total": 2, "successful": 1, "skipped": 0, "failed": 1}},
    ],
    ids=["closed", "forbidden", "no shards", "timed out", "one shard short"],
)
def test_anything_less_than_the_whole_answer_is_an_error(answer: dict[str, Any]) -> None:
    for read in (read_day, read_steps):
        with pytest.raises(IndexUnavailable, match=r"hits-2026\.11\.24"):
            read("hits-2026.11.24", answer)


# ── histories ───────────────────────────────────────────────────────────────────────────────────────────────────────


def histogram_of(now_ms: int, steps: Steps, hits: list[tuple[int, int]]) -> dict[str, Any]:
    """Return what Elasticsearch answers to the search for a history: only steps with hits, by when they begin."""
    search: Any = build_history_search("id", now_ms, steps, timeout_seconds=1)
    histogram = search["aggs"]["steps"]["date_histogram"]
    window = search["query"]["bool"]["filter"][1]["range"]["timestamp"]
    length_ms, offset_ms = (int(histogram[name].removesuffix("ms")) for name in ("fixed_interval", "offset"))
    buckets: dict[int, int] = {}
    for time_ms, weight in hits:
        if window["gte"] <= time_ms < window["lt"]:
            begin_ms = (time_ms - offset_ms) // length_ms * length_ms + offset_ms
            buckets[begin_ms] = buckets.get(begin_ms, 0) + weight
    found = [{"key": begin_ms, "hits": {"value": float(weight)}} for begin_ms, weight in sorted(buckets.items())]
    return WHOLE | {"aggregations": {"steps": {"buckets": found}}}


@given(
    st.integers(10 * DAY_MS, 10**14),
    st.sampled_from(list(HISTORIES.values())),
    st.lists(st.tuples(ages_ms, st.integers(1, 1_000_000)), max_size=40),
)
def test_steps_hold_exactly_what_a_plain_count_finds_though_days_cut_through_them(
    now_ms: int, steps: Steps, hits: list[tuple[int, int]]
) -> None:
    placed = [(now_ms - age_ms, weight) for age_ms, weight in hits]
    midnight_ms = now_ms // DAY_MS * DAY_MS
    days = [[hit for hit in placed if hit[0] < midnight_ms], [hit for hit in placed if hit[0] >= midnight_ms]]
    answers = [read_steps("a day", histogram_of(now_ms, steps, day)) for day in days]
    begins_ms = [now_ms - place * steps.length_ms for place in range(steps.number, 0, -1)]
    expected = [
        sum(weight for time_ms, weight in placed if begin_ms <= time_ms < begin_ms + steps.length_ms)
        for begin_ms in begins_ms
    ]
    assert list(sum_steps(answers, now_ms, steps)) == expected


def test_histories_add_up_to_windows() -> None:
    lengths_ms = {name: steps.number * steps.length_ms for name, steps in HISTORIES.items()}
    assert lengths_ms == {"minute": dict(WINDOWS)["1 hour ago"], "hour": dict(WINDOWS)["3 days ago"]}


def test_a_day_that_is_missing_or_empty_has_no_steps() -> None:
    missing = {"status": 404, "error": {"type": "index_not_found_exception", "reason": "no such index"}}
    assert read_steps("hits-2026.11.24", missing) == {}
    assert read_steps("hits-2026.11.24", {key: WHOLE[key] for key in WHOLE if key != "aggregations"}) == {}
