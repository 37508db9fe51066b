"""Names of days and documents, the bodies that make indices, and what retention may take."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hitcounter.hits import BATCH_MAX_HITS, DAY_MS
from hitcounter.indices import (
    MAPPING,
    MAPPING_VERSION,
    build_index,
    build_template,
    day_of,
    document_id,
    document_id_prefix,
    earliest_ms,
    elasticsearch_day_name,
    expired_indices,
    find_clock_fault,
    find_mapping_fault,
    find_missing_fields,
    find_newer_meta,
    index_of,
    indices_of_windows,
    indices_to_prepare,
    is_durable,
    keyed_document_id,
    template_name,
    write_alias,
)
from hitcounter.settings import IndexSettings
from hypothesis import given
from hypothesis import strategies as st

PRODUCER = b"\xff" * 12
NOW_MS = 1_795_507_200_000  # 2026-11-24T08:00:00Z
times_ms = st.integers(0, 253_402_300_799_999)


def ms(*date_and_time: int) -> int:
    return int(datetime(*date_and_time, tzinfo=UTC).timestamp() * 1000)  # type: ignore[misc,arg-type]  # year, month, day, …


# ── days ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("last_day", "next_day"),
    [
        ("2026.11.23", "2026.11.24"),
        ("2026.11.30", "2026.12.01"),
        ("2026.12.31", "2027.01.01"),
        ("2028.02.28", "2028.02.29"),
        ("2028.02.29", "2028.03.01"),
        ("2027.02.28", "2027.03.01"),
        ("2100.02.28", "2100.03.01"),
        ("1999.12.31", "2000.01.01"),
    ],
)
def test_day_ends_with_its_last_millisecond_utc(last_day: str, next_day: str) -> None:
    midnight_ms = ms(*map(int, next_day.split(".")))
    assert index_of("hits", midnight_ms - 1) == f"hits-{last_day}"
    assert index_of("hits", midnight_ms) == f"hits-{next_day}"


@given(times_ms)
def test_index_of_a_hit_is_the_utc_day_of_its_own_time_and_can_be_read_back(time_ms: int) -> None:
    index = index_of("hits", time_ms)
    day = date(1970, 1, 1) + timedelta(days=time_ms // DAY_MS)
    assert index == f"hits-{day.year:04d}.{day.month:02d}.{day.day:02d}"
    assert day_of("hits", index) == datetime(day.year, day.month, day.day, tzinfo=UTC)


@given(times_ms, st.integers(1, 5 * DAY_MS))
def test_windows_touch_exactly_the_days_of_their_milliseconds(now_ms: int, window_ms: int) -> None:
    now_ms = max(now_ms, window_ms)
    days = range((now_ms - window_ms) // DAY_MS, (now_ms - 1) // DAY_MS + 1)
    assert indices_of_windows("hits", now_ms, window_ms) == [index_of("hits", day * DAY_MS) for day in days]


def test_window_that_ends_at_midnight_does_not_touch_the_day_that_begins() -> None:
    midnight_ms = ms(2027, 1, 1)
    assert indices_of_windows("hits", midnight_ms, 1) == ["hits-2026.12.31"]
    assert indices_of_windows("hits", midnight_ms + 1, 1) == ["hits-2027.01.01"]
    assert indices_of_windows("hits", midnight_ms, DAY_MS) == ["hits-2026.12.31"]
    assert indices_of_windows("hits", midnight_ms + 1, DAY_MS) == ["hits-2026.12.31", "hits-2027.01.01"]


def test_three_days_touch_at_most_the_four_days_that_retention_always_keeps() -> None:
    for now_ms in (NOW_MS, ms(2028, 3, 1), ms(2028, 3, 1) + 1):
        assert len(indices_of_windows("hits", now_ms, 3 * DAY_MS)) <= 4


def test_tomorrow_is_prepared_today() -> None:
    assert indices_to_prepare("hits", ms(2026, 12, 31)) == ["hits-2026.12.31", "hits-2027.01.01"]


@pytest.mark.parametrize(
    "name",
    [
        "hits",
        "hits-",
        "hits-2026.11",
        "hits-2026.11.24-write",
        "hits-2026.11.24 ",
        "hits-2026.11.24\n",
        "hits-2026.02.30",
        "hits-0000.01.01",
        "hits-26.11.24",
        "hits-2026-11-24",
        "hits-eu-2026.11.24",
        "other-2026.11.24",
        "Hits-2026.11.24",
        "xhits-2026.11.24",
        "hits-٢٠٢٦.11.24",
    ],
)
def test_name_that_is_not_exactly_ours_has_no_day(name: str) -> None:
    assert day_of("hits", name) is None


def test_prefix_is_taken_literally_and_never_as_a_pattern() -> None:
    assert day_of("h.ts", "hits-2026.11.24") is None


# ── documents ───────────────────────────────────────────────────────────────────────────────────────────────────────


@given(
    st.tuples(st.binary(min_size=12, max_size=12), st.integers(1, 2**48 - 1), st.integers(0, BATCH_MAX_HITS - 1)),
    st.tuples(st.binary(min_size=12, max_size=12), st.integers(1, 2**48 - 1), st.integers(0, BATCH_MAX_HITS - 1)),
)
def test_document_id_differs_where_producer_or_sequence_or_position_differs(
    one: tuple[bytes, int, int], other: tuple[bytes, int, int]
) -> None:
    ids = {document_id(document_id_prefix(producer, sequence), at) for producer, sequence, at in (one, other)}
    assert len(ids) == len({one, other})


def test_document_ids_of_the_largest_batch_are_all_different_and_28_characters_long() -> None:
    prefix = document_id_prefix(PRODUCER, 2**48 - 1)
    ids = {document_id(prefix, position) for position in range(BATCH_MAX_HITS)}
    assert len(ids) == BATCH_MAX_HITS
    assert {len(id_) for id_ in ids} == {28}


@given(st.text(min_size=1, max_size=128), st.text(min_size=1, max_size=32), times_ms)
def test_document_id_of_a_key_has_32_characters_so_it_is_never_one_of_the_other_kind(
    id_: str, key: str, time_ms: int
) -> None:
    assert len(keyed_document_id(id_, key, time_ms)) == 32
    assert keyed_document_id(id_, key, time_ms) == keyed_document_id(id_, key, time_ms)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(("ab", "c", 1), ("a", "bc", 1), id="where id and key meet"),
        pytest.param(("a", "b", 1), ("b", "a", 1), id="id and key changed places"),
        pytest.param(("a", "b", 1), ("a", "b", 2), id="another time"),
        pytest.param(("a", "b", 1), ("a", "B", 1), id="another key"),
        pytest.param(("é", "b", 1), ("e\u0301", "b", 1), id="the same letter by other characters"),
        pytest.param(("a\0", "b", 1), ("a", "\0b", 1), id="a NUL on either side"),
    ],
)
def test_different_keyed_hits_have_different_documents(one: tuple[str, str, int], other: tuple[str, str, int]) -> None:
    assert keyed_document_id(*one) != keyed_document_id(*other)


# ── making indices ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_index_is_created_complete_with_strict_mapping_sort_refresh_and_both_aliases() -> None:
    assert build_index("hits", "hits-2026.11.24", IndexSettings(shards=3, replicas=2)) == {
        "settings": {
            "index": {
                "number_of_shards": 3,
                "number_of_replicas": 2,
                "refresh_interval": "30s",
                "sort.field": ["id", "timestamp"],
                "sort.order": ["asc", "desc"],
                "translog.durability": "request",
                "default_pipeline": "_none",
                "final_pipeline": "_none",
            }
        },
        "mappings": {
            "dynamic": "strict",
            "_meta": {"owner": "hitcounter", "version": 2},
            "_source": {"enabled": False},
            "properties": {
                "id": {"type": "keyword"},
                "timestamp": {"type": "date", "format": "epoch_millis"},
                "n": {"type": "long", "index": False},
            },
        },
        "aliases": {"hits": {}, "hits-2026.11.24-write": {}},
    }


def test_template_is_the_same_for_whoever_else_creates_a_day_but_gives_no_write_alias() -> None:
    template: Any = build_template("hits", IndexSettings())
    index: Any = build_index("hits", "hits-2026.11.24", IndexSettings())
    assert template_name("hits") == "hitcounter-hits"
    assert template["index_patterns"] == ["hits-*.*.*"]
    assert template["version"] == MAPPING_VERSION
    assert template["template"]["mappings"] == index["mappings"]
    assert template["template"]["settings"] == index["settings"]
    assert template["template"]["aliases"] == {"hits": {}}


def test_template_tells_the_settings_it_was_made_from() -> None:
    def marks(settings: IndexSettings) -> object:
        return build_template("hits", settings)["_meta"]

    assert marks(IndexSettings(shards=1)) == marks(IndexSettings(shards=1))
    assert marks(IndexSettings(shards=1)) != marks(IndexSettings(shards=2))


def test_templates_of_two_installations_never_claim_an_index_with_the_same_priority() -> None:
    short, long = (build_template(prefix, IndexSettings()) for prefix in ("hits", "hits-eu"))
    assert long["priority"] > short["priority"]  # type: ignore[operator]  # numbers; the longer prefix is the one meant


def test_documents_are_written_through_an_alias_that_only_our_creation_makes() -> None:
    assert write_alias("hits-2026.11.24") == "hits-2026.11.24-write"


def test_mapping_as_we_make_it_has_no_fault() -> None:
    assert find_mapping_fault(MAPPING) is None


def test_mapping_that_a_later_version_has_added_to_has_no_fault() -> None:
    mapping: Any = copy.deepcopy(dict(MAPPING))
    mapping["properties"]["country"] = {"type": "keyword"}
    mapping["_meta"]["version"] = MAPPING_VERSION + 1
    assert find_mapping_fault(mapping) is None


@pytest.mark.parametrize("version", [None, 0, 1, MAPPING_VERSION])
def test_field_that_an_older_version_did_not_know_is_no_fault_and_is_to_be_added(version: int | None) -> None:
    mapping: Any = copy.deepcopy(dict(MAPPING))
    missing = {"n": mapping["properties"].pop("n")}
    mapping["_meta"]["version"] = version
    assert find_mapping_fault(mapping) is None
    assert find_missing_fields(mapping) == missing
    assert find_missing_fields(MAPPING) == {}


@pytest.mark.parametrize(
    ("version", "is_written"), [(None, True), (1, True), (MAPPING_VERSION, False), (MAPPING_VERSION + 1, False)]
)
def test_marker_of_a_mapping_is_written_over_that_of_an_older_version_alone(
    version: int | None, is_written: bool
) -> None:
    mapping = {**MAPPING, "_meta": {"owner": "hitcounter", "version": version}}
    assert find_newer_meta(mapping) == (MAPPING["_meta"] if is_written else None)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, True),
        ({"index.translog.durability": "request"}, True),
        ({"index.translog.durability": "async"}, False),
    ],
)
def test_index_is_durable_unless_it_answers_before_it_syncs(settings: dict[str, str], expected: bool) -> None:
    assert is_durable(settings) is expected


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        pytest.param(lambda m: m.clear(), "not made by", id="no mapping at all"),
        pytest.param(lambda m: m.pop("_meta"), "not made by", id="no marker"),
        pytest.param(lambda m: m.update(_meta="hitcounter"), "not made by", id="a marker of another shape"),
        pytest.param(lambda m: m["_meta"].update(owner="someone"), "not made by", id="another owner"),
        pytest.param(lambda m: m.pop("dynamic"), "strict", id="not strict"),
        pytest.param(lambda m: m.update(dynamic="true"), "strict", id="dynamic"),
        pytest.param(lambda m: m.pop("_source"), "_source", id="the source kept"),
        pytest.param(lambda m: m.pop("properties"), "no fields", id="no fields"),
        pytest.param(
            lambda m: (m["properties"].pop("n"), m["_meta"].update(version=MAPPING_VERSION + 1)),
            "newer version made it, without n",
            id="a field that a newer version has no more",
        ),
        pytest.param(lambda m: m["properties"].update(id={"type": "text"}), "of id differs", id="id as text"),
        pytest.param(
            lambda m: m["properties"].update(timestamp={"type": "date"}), "of timestamp differs", id="another date"
        ),
        pytest.param(lambda m: m["properties"].update(n={"type": "long"}), "of n differs", id="n indexed"),
        pytest.param(lambda m: m["properties"].update(n={"type": "integer"}), "of n differs", id="n too narrow"),
        pytest.param(
            lambda m: m["properties"].update(id={}, n={}), "of id, n differs", id="several fields, all of them named"
        ),
    ],
)
def test_mapping_that_is_not_ours_has_a_fault_that_says_what(change: Callable[[Any], None], fault: str) -> None:
    mapping: Any = copy.deepcopy(dict(MAPPING))
    change(mapping)
    assert fault in (find_mapping_fault(mapping) or "none")


# ── retention ───────────────────────────────────────────────────────────────────────────────────────────────────────


def days_before(now_ms: int, *ages: int, prefix: str = "hits") -> list[str]:
    return [index_of(prefix, now_ms - age * DAY_MS) for age in ages]


def expired(indices: list[str], *, now_ms: int = NOW_MS, retention_days: int = 4) -> list[str]:
    return expired_indices(dict.fromkeys(indices, MAPPING), "hits", now_ms, retention_days)


HOUR_MS = 3_600_000


def test_retention_keeps_the_days_asked_for_today_included_and_drops_older_ones_oldest_first() -> None:
    indices = days_before(NOW_MS, *range(10))
    assert expired(indices, retention_days=7) == days_before(NOW_MS, 9, 8, 7)


@pytest.mark.parametrize("now_ms", [ms(2028, 3, 1, 1), ms(2028, 3, 2) - 1, ms(2027, 1, 1, 1), ms(2027, 1, 1, 1) + 1])
def test_retention_counts_whole_days_whatever_the_hour(now_ms: int) -> None:
    assert expired(days_before(now_ms, *range(8)), now_ms=now_ms) == days_before(now_ms, 7, 6, 5, 4)


@pytest.mark.parametrize("after_midnight_ms", [0, 500, 60_000, HOUR_MS - 1])
def test_day_that_ended_a_moment_ago_is_kept_for_an_hour(after_midnight_ms: int) -> None:
    now_ms = ms(2026, 11, 24) + after_midnight_ms
    assert expired(days_before(now_ms, *range(7)), now_ms=now_ms) == days_before(now_ms, 6, 5)


def test_days_to_come_are_kept() -> None:
    assert expired(days_before(NOW_MS, -1, -2, -400)) == []


@given(st.integers(-5, 3), st.integers(DAY_MS * 5, 253_402_300_799_999 - 5 * DAY_MS))
def test_retention_never_drops_a_day_that_the_longest_window_touches(retention_days: int, now_ms: int) -> None:
    dropped = expired(days_before(now_ms, *range(5)), now_ms=now_ms, retention_days=retention_days)
    assert not set(dropped) & set(indices_of_windows("hits", now_ms, 3 * DAY_MS))
    assert dropped == (days_before(now_ms, 4) if now_ms % DAY_MS >= HOUR_MS else [])


def test_index_without_our_marker_is_never_dropped() -> None:
    (old,) = days_before(NOW_MS, 100)
    assert expired_indices({old: {}}, "hits", NOW_MS, 4) == []
    assert expired_indices({old: {"_meta": {"owner": "someone"}}}, "hits", NOW_MS, 4) == []
    assert expired_indices({old: MAPPING}, "hits", NOW_MS, 4) == [old]


@pytest.mark.parametrize(
    "name", ["hits-2020.01.01-copy", "hits-eu-2020.01.01", "old-hits-2020.01.01", "hits-2020.02.30"]
)
def test_index_with_another_name_is_never_dropped_even_if_it_is_marked(name: str) -> None:
    assert expired([name]) == []


@pytest.mark.parametrize(
    ("others", "doubt"),
    [
        ({"Redis": NOW_MS + 60_000}, None),
        ({"Redis": NOW_MS - 60_001}, "the clock of this machine is 60 s ahead of that of Redis"),
        ({"Redis": NOW_MS + 864_000_000}, "the clock of this machine is 864000 s behind that of Redis"),
        ({}, "no other clock is known to compare with"),
    ],
)
def test_clock_that_is_more_than_a_minute_from_another_is_reported(others: dict[str, float], doubt: str | None) -> None:
    assert find_clock_fault("this machine", NOW_MS, others) == doubt


def test_day_that_elasticsearch_names_means_the_earliest_time_at_which_it_would() -> None:
    assert elasticsearch_day_name("hits") == "<hits-{now-60m/d{yyyy.MM.dd}}>"
    assert earliest_ms("hits", "hits-2026.11.24") == ms(2026, 11, 24, 1)
    assert earliest_ms("hits", "hits-eu-2026.11.24") is None
