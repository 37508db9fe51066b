"""Windows: what is asked, how it is added up, and which answers are none."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hitcounter.errors import IndexUnavailable
from hitcounter.hits import DAY_MS, HOUR_MS
from hitcounter.indices import index_of
from hitcounter_api.counts import (
    HISTORIES,
    WINDOWS,
    CountReader,
    Part,
    Range,
    Steps,
    build_header,
    build_history_search,
    build_search,
    read_part,
    read_steps,
    split_windows,
    sum_steps,
    sum_windows,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.api.fakes import NOW_MS

EDGES_MS = sorted({offset for _, length_ms in WINDOWS for offset in (length_ms - 1, length_ms, length_ms + 1)} | {0, 1})

ages_ms = st.one_of(st.sampled_from(EDGES_MS), st.integers(-DAY_MS, 4 * DAY_MS))


moments_ms = st.one_of(
    st.integers(10 * DAY_MS, 10**14),
    # Where edges of windows, of hours and of days meet.
    st.builds(operator.add, st.sampled_from([NOW_MS // DAY_MS * DAY_MS, NOW_MS // HOUR_MS * HOUR_MS]), ages_ms),
)


def answer_to(part: Part, hits: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Return what Elasticsearch answers to the search for a part: the weights in each of its ranges."""
    search: Any = build_search("id", part, timeout_seconds=1)
    window = search["query"]["bool"]["filter"][1]["range"]["timestamp"]
    of_index = [
        (time_ms, weight)
        for time_ms, weight in hits
        if index_of("hits", time_ms) == part.index and window["gte"] <= time_ms < window["lt"]
    ]
    buckets = {
        one["key"]: {"hits": {"value": float(sum(weight for at, weight in of_index if one["from"] <= at < one["to"]))}}
        for one in search["aggs"]["ranges"]["date_range"]["ranges"]
    }
    return WHOLE | {"aggregations": {"ranges": {"buckets": buckets}}}


@given(moments_ms, st.lists(st.tuples(ages_ms, st.integers(1, 1_000_000)), max_size=40))
def test_windows_hold_exactly_what_a_plain_count_finds(now_ms: int, hits: list[tuple[int, int]]) -> None:
    placed = [(now_ms - age_ms, weight) for age_ms, weight in hits]
    found = [read_part(part, answer_to(part, placed)) for part in split_windows("hits", now_ms)]
    expected = tuple(
        sum(weight for time_ms, weight in placed if now_ms - length_ms <= time_ms < now_ms) for _, length_ms in WINDOWS
    )
    assert sum_windows([sum(ranges) for ranges in zip(*found, strict=True)]) == expected


def test_sums_of_elasticsearch_are_exact_up_to_the_floats_limit_and_added_up_exactly() -> None:
    limit = 2**53  # Elasticsearch answers floats: beyond it the next number is rounded away
    parts = split_windows("hits", NOW_MS)
    found = [
        read_part(part, answer_to(part, [(NOW_MS - 1, limit), (NOW_MS - 2 * DAY_MS, limit - 1)])) for part in parts
    ]
    assert sum_windows([sum(ranges) for ranges in zip(*found, strict=True)])[0] == 2 * limit - 1
    beyond = [read_part(part, answer_to(part, [(NOW_MS - 1, limit + 1)])) for part in parts]
    assert max(max(ranges) for ranges in beyond) == limit


@given(moments_ms)
def test_ranges_do_not_overlap_and_leave_no_gap(now_ms: int) -> None:
    ranges = sorted((one.from_ms, one.to_ms) for part in split_windows("hits", now_ms) for one in part.ranges)
    assert (ranges[0][0], ranges[-1][1]) == (now_ms - 3 * DAY_MS, now_ms)
    assert all(before[1] == after[0] for before, after in pairwise(ranges))


@given(moments_ms)
def test_parts_are_of_one_day_each_and_what_is_not_repeated_is_short_or_of_today(now_ms: int) -> None:
    for part in split_windows("hits", now_ms):
        begin_ms, end_ms = part.ranges[0].from_ms, part.ranges[-1].to_ms
        assert {index_of("hits", begin_ms), index_of("hits", end_ms - 1)} == {part.index}
        assert part.is_repeated or end_ms - begin_ms <= HOUR_MS or part.index == index_of("hits", now_ms - 1)
        assert build_header(part.index, is_repeated=part.is_repeated)["request_cache"] == part.is_repeated


@given(st.integers(10 * DAY_MS, 10**14), st.integers(1, HOUR_MS - 1), st.integers(1, HOUR_MS - 1))
def test_what_is_repeated_is_the_same_all_hour_long(now_ms: int, one_ms: int, another_ms: int) -> None:
    hour_ms = now_ms // HOUR_MS * HOUR_MS
    one, another = (
        [part for part in split_windows("hits", hour_ms + past_ms) if part.is_repeated]
        for past_ms in (one_ms, another_ms)
    )
    assert one == another
    assert len(one) in (2, 3)  # in the last hour of a day nothing whole is left of the first day


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


PART = Part("hits-2026.11.24", [Range(1, 10, 20), Range(2, 20, 30), Range(2, 40, 50)], is_repeated=True)


def test_a_whole_answer_is_added_to_the_windows_of_its_ranges() -> None:
    assert read_part(PART, WHOLE) == [0, 0, 1 + 2, 0, 0]


def test_a_missing_day_counts_zero() -> None:
    missing = {"status": 404, "error": {"type": "index_not_found_exception", "reason": "no such index"}}
    assert read_part(PART, missing) == [0, 0, 0, 0, 0]


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
    with pytest.raises(IndexUnavailable, match=r"hits-2026\.11\.24"):
        read_part(PART, answer)
    with pytest.raises(IndexUnavailable, match=r"hits-2026\.11\.24"):
        read_steps("hits-2026.11.24", answer)


class Forgetful:
    """An Elasticsearch client that gets one answer fewer than it has asked for."""

    def options(self, **_: object) -> Forgetful:
        return self

    async def msearch(self, *, searches: Sequence[object], **_: object) -> dict[str, Any]:
        missing = {"status": 404, "error": {"type": "index_not_found_exception", "reason": "no such index"}}
        return {"responses": [missing] * (len(searches) // 2 - 1)}


async def test_fewer_answers_than_were_asked_for_are_no_counts() -> None:
    reader = CountReader(Forgetful(), "hits", timeout_seconds=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="shorter"):
        await reader.read("id", NOW_MS)
    with pytest.raises(ValueError, match="shorter"):
        await reader.read_history("id", NOW_MS, HISTORIES["hour"])


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
