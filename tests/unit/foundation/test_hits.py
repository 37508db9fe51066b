"""What a client may send: every rule of hits.py, both sides of every limit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hitcounter.errors import InvalidHit
from hitcounter.hits import (
    ACCEPT_AHEAD_MS,
    ACCEPT_BACK_MS,
    DAY_MS,
    Hit,
    check_id,
    is_longer_than,
    parse_timestamp,
    read_hit,
    uuid7_time_ms,
)
from hypothesis import given
from hypothesis import strategies as st

NOW_MS = 1_795_507_200_000  # 2026-11-24T08:00:00Z
NOW = "2026-11-24T08:00:00Z"
PLAIN_KEY = "order-17"


def rfc3339(time_ms: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_ms)).isoformat(timespec="milliseconds")


def uuid7(time_ms: int) -> str:
    digits = f"{time_ms:012x}"
    return f"{digits[:8]}-{digits[8:]}-7abc-8def-0123456789ab"


def refusal(fields: object, header_key: str | None = None) -> InvalidHit:
    with pytest.raises(InvalidHit) as caught:
        read_hit(fields, NOW_MS, header_key)
    return caught.value


# ── the hit as a whole ──────────────────────────────────────────────────────────────────────────────────────────────


def test_hit_with_only_an_id_has_the_time_of_its_arrival_and_weight_one() -> None:
    assert read_hit({"id": "1"}, NOW_MS) == Hit("1", NOW_MS, 1, "")


def test_hit_keeps_its_own_time_weight_and_key() -> None:
    fields = {"id": "a/b", "timestamp": "2026-11-24T07:59:59.250Z", "weight": 3, "key": PLAIN_KEY}
    assert read_hit(fields, NOW_MS) == Hit("a/b", NOW_MS - 750, 3, PLAIN_KEY)


@pytest.mark.parametrize("fields", [None, True, 1, 1.5, "1", [], [{"id": "1"}]])
def test_anything_but_a_json_object_is_refused(fields: object) -> None:
    assert "JSON object" in refusal(fields).detail


def test_unknown_field_is_refused_by_its_name_and_the_known_ones_are_listed() -> None:
    error = refusal({"id": "1", "colour": "red"})
    assert error.field == "colour"
    assert "id, key, timestamp, weight" in error.detail


def test_name_of_an_unknown_field_is_cut_so_that_the_answer_stays_small() -> None:
    assert refusal({"id": "1", "x" * 10_000: 1}).field == "x" * 64


@pytest.mark.parametrize("name", ["ID", "Id", "id ", "timestamp_ms", ""])
def test_field_names_are_exact(name: str) -> None:
    assert refusal({"id": "1", name: "x"}).field == name


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["id", "timestamp", "weight", "key"]) | st.text(), inner, max_size=5)
        ),
    ),
    st.none() | st.text(),
)
def test_any_json_value_is_either_a_hit_or_an_invalid_hit(fields: object, header_key: str | None) -> None:
    try:
        hit = read_hit(fields, NOW_MS, header_key)
    except InvalidHit:
        return
    assert 1 <= len(hit.id.encode()) <= 512
    assert NOW_MS - ACCEPT_BACK_MS <= hit.timestamp_ms <= NOW_MS + ACCEPT_AHEAD_MS
    assert 1 <= hit.weight <= 1_000_000
    assert len(hit.key.encode()) <= 128


# ── id ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "id_", ["1", " ", "a b", "a/b/../c", "batch", "\0", "🐦", "é" * 256, "語" * 170 + "ab", "🐦" * 128]
)
def test_every_text_of_1_to_512_bytes_is_an_id(id_: str) -> None:
    assert read_hit({"id": id_}, NOW_MS).id == id_


@pytest.mark.parametrize("id_", ["a" * 513, "é" * 256 + "a", "語" * 171, "🐦" * 128 + "a", "a" * 100_000])
def test_id_over_512_bytes_is_refused_whatever_its_characters(id_: str) -> None:
    error = refusal({"id": id_})
    assert (error.field, error.limit) == ("id", 512)
    assert "512 bytes" in error.detail


def test_missing_id_is_refused() -> None:
    error = refusal({})
    assert error.field == "id"
    assert "missing" in error.detail


def test_empty_id_is_refused() -> None:
    error = refusal({"id": ""})
    assert error.field == "id"
    assert "empty" in error.detail


@pytest.mark.parametrize("id_", [".", ".."])
def test_id_that_no_url_can_carry_is_refused(id_: str) -> None:
    error = refusal({"id": id_})
    assert error.field == "id"
    assert "URL" in error.detail


@pytest.mark.parametrize("id_", ["...", "a/..", "./a", " ."])
def test_id_with_dots_and_more_is_taken(id_: str) -> None:
    assert read_hit({"id": id_}, NOW_MS).id == id_


@pytest.mark.parametrize("id_", [None, True, 1, 1.5, [], {}, ["1"]])
def test_id_that_is_no_string_is_refused(id_: object) -> None:
    error = refusal({"id": id_})
    assert error.field == "id"
    assert "string" in error.detail


@pytest.mark.parametrize("id_", ["\ud800", "a\udfff", "\udc80" * 512])
def test_id_without_a_utf8_form_is_refused_since_it_would_spoil_its_whole_batch(id_: str) -> None:
    with pytest.raises(InvalidHit, match="UTF-8"):
        check_id(id_)


@given(st.text(max_size=600), st.integers(0, 600))
def test_length_is_counted_in_bytes_of_utf8(text: str, max_bytes: int) -> None:
    assert is_longer_than(text, max_bytes) == (len(text.encode()) > max_bytes)


# ── weight ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("weight", [1, 2, 999_999, 1_000_000])
def test_weight_of_1_to_a_million_is_taken(weight: int) -> None:
    assert read_hit({"id": "1", "weight": weight}, NOW_MS) == Hit("1", NOW_MS, weight)


@pytest.mark.parametrize("weight", [0, -1, 1_000_001, 2**63])
def test_weight_outside_of_1_to_a_million_is_refused(weight: int) -> None:
    error = refusal({"id": "1", "weight": weight})
    assert (error.field, error.limit) == ("weight", 1_000_000)


@pytest.mark.parametrize("weight", [None, True, False, 1.0, "1", [1], {}, float("nan")])
def test_weight_that_is_no_whole_number_is_refused(weight: object) -> None:
    error = refusal({"id": "1", "weight": weight})
    assert error.field == "weight"
    assert "whole number" in error.detail


# ── timestamp ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "time_ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-11-24T08:00:00Z", NOW_MS),
        ("2026-11-24t08:00:00z", NOW_MS),
        ("2026-11-24T08:00:00+00:00", NOW_MS),
        ("2026-11-24T08:00:00-00:00", NOW_MS),
        ("2026-11-24T09:30:00+01:30", NOW_MS),
        ("2026-11-23T20:15:00-11:45", NOW_MS),
        ("2026-11-25T07:59:00+23:59", NOW_MS),
        ("2026-11-24T08:00:00.1Z", NOW_MS + 100),
        ("2026-11-24T08:00:00.25Z", NOW_MS + 250),
        ("2026-11-24T08:00:00.001Z", NOW_MS + 1),
        ("2024-02-29T23:59:59.999Z", 1_709_251_199_999),
        ("1969-12-31T23:59:59.999Z", -1),
        ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
    ],
)
def test_rfc3339_in_all_its_forms_is_read_to_the_millisecond(text: str, time_ms: int) -> None:
    assert parse_timestamp(text) == time_ms


@pytest.mark.parametrize(
    "text",
    [
        "2026-12-31T23:59:60Z",
        "2026-12-31T23:59:60.250Z",
        "2027-01-01T00:59:60+01:00",
        "2026-12-31T15:59:60-08:00",
    ],
)
def test_leap_second_is_the_last_millisecond_of_its_day(text: str) -> None:
    assert parse_timestamp(text) == parse_timestamp("2027-01-01T00:00:00Z") - 1


@pytest.mark.parametrize("fraction", ["1239", "12399999999999", "123" + "9" * 500])
def test_fraction_is_cut_to_the_millisecond_and_never_rounded(fraction: str) -> None:
    assert parse_timestamp(f"2026-11-24T08:00:00.{fraction}Z") == NOW_MS + 123


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("2026-11-24T08:00:00", id="no offset"),
        pytest.param("2026-11-24", id="no time"),
        pytest.param("2026-11-24 08:00:00Z", id="a space for the T"),
        pytest.param("2026-11-24T08:00Z", id="no seconds"),
        pytest.param("2026-11-24T08:00:00.Z", id="an empty fraction"),
        pytest.param("2026-11-24T08:00:00,5Z", id="a comma"),
        pytest.param("2026-11-24T08:00:00+0100", id="an offset without a colon"),
        pytest.param("2026-11-24T08:00:00+01", id="an offset without minutes"),
        pytest.param("2026-11-24T08:00:00+24:00", id="an offset of a day"),
        pytest.param("2026-11-24T08:00:00+01:60", id="an offset of sixty minutes"),
        pytest.param("2026-12-31T23:58:60Z", id="second 60 of a minute that is not the last of a day"),
        pytest.param("2026-12-31T23:59:60+01:00", id="second 60 of a minute that is the last of a day elsewhere"),
        pytest.param("2026-12-31T23:59:61Z", id="second 61"),
        pytest.param("2026-11-24T24:00:00Z", id="24:00"),
        pytest.param("2026-11-24T08:60:00Z", id="minute 60"),
        pytest.param("2026-02-29T00:00:00Z", id="29 February of a common year"),
        pytest.param("2100-02-29T00:00:00Z", id="29 February of 2100"),
        pytest.param("2026-11-31T00:00:00Z", id="31 November"),
        pytest.param("2026-13-01T00:00:00Z", id="month 13"),
        pytest.param("2026-00-01T00:00:00Z", id="month 0"),
        pytest.param("2026-11-00T00:00:00Z", id="day 0"),
        pytest.param("0000-01-01T00:00:00Z", id="the year 0"),
        pytest.param("20261124T080000Z", id="the basic form"),
        pytest.param("1795507200", id="seconds since the epoch"),
        pytest.param("", id="nothing"),
        pytest.param(" 2026-11-24T08:00:00Z", id="a space before"),
        pytest.param("2026-11-24T08:00:00Z\n", id="a line end after"),
        pytest.param("٢٠٢٦-11-24T08:00:00Z", id="digits that are not ASCII"),
        pytest.param("+2026-11-24T08:00:00Z", id="a signed year"),
    ],
)
def test_timestamp_in_any_other_form_or_of_no_real_time_is_refused(text: str) -> None:
    error = refusal({"id": "1", "timestamp": text})
    assert error.field == "timestamp"
    assert "no time" in error.detail


@pytest.mark.parametrize("timestamp", [None, True, NOW_MS, 1.5, [NOW], {}])
def test_timestamp_that_is_no_string_is_refused(timestamp: object) -> None:
    assert refusal({"id": "1", "timestamp": timestamp}).field == "timestamp"


@given(
    st.datetimes(
        datetime(1, 1, 2),
        datetime(9999, 12, 30),
        timezones=st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda minutes: timezone(timedelta(minutes=minutes))),
    )
)
def test_any_time_with_an_offset_is_read_as_python_itself_reads_it(time: datetime) -> None:
    expected = (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert parse_timestamp(time.isoformat(timespec="microseconds")) == expected


@pytest.mark.parametrize("time_ms", [NOW_MS - 3 * DAY_MS, NOW_MS - 1, NOW_MS, NOW_MS + 5 * 60_000])
def test_timestamp_from_3_days_back_to_5_minutes_ahead_is_taken(time_ms: int) -> None:
    assert read_hit({"id": "1", "timestamp": rfc3339(time_ms)}, NOW_MS).timestamp_ms == time_ms


@pytest.mark.parametrize(
    ("time_ms", "limit"), [(NOW_MS - 3 * DAY_MS - 1, "3 days back"), (NOW_MS + 5 * 60_000 + 1, "5 minutes ahead")]
)
def test_timestamp_a_millisecond_outside_of_the_acceptance_window_is_refused(time_ms: int, limit: str) -> None:
    error = refusal({"id": "1", "timestamp": rfc3339(time_ms)})
    assert (error.field, error.limit) == ("timestamp", limit)


# ── key ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("key", ["k", " ", "\0", "🐦" * 32, "k" * 128])
def test_key_of_1_to_128_bytes_with_a_timestamp_is_taken(key: str) -> None:
    assert read_hit({"id": "1", "key": key, "timestamp": NOW}, NOW_MS).key == key


@pytest.mark.parametrize("key", ["k" * 129, "🐦" * 32 + "k"])
def test_key_over_128_bytes_is_refused(key: str) -> None:
    error = refusal({"id": "1", "key": key, "timestamp": NOW})
    assert (error.field, error.limit) == ("key", 128)


@pytest.mark.parametrize("key", [None, "", 1, True, [], {}])
def test_key_that_is_empty_or_no_string_is_refused(key: object) -> None:
    assert refusal({"id": "1", "key": key, "timestamp": NOW}).field == "key"


def test_key_without_a_utf8_form_is_refused() -> None:
    assert refusal({"id": "1", "key": "\ud800", "timestamp": NOW}).field == "key"


def test_key_without_any_time_is_refused_since_a_retry_tomorrow_would_count_again() -> None:
    error = refusal({"id": "1", "key": PLAIN_KEY})
    assert error.field == "key"
    assert "timestamp" in error.detail


def test_uuid7_key_brings_its_own_time() -> None:
    key = uuid7(NOW_MS - 1234)
    assert read_hit({"id": "1", "key": key}, NOW_MS) == Hit("1", NOW_MS - 1234, 1, key)


def test_uuid7_key_may_come_with_the_timestamp_that_it_holds() -> None:
    key = uuid7(NOW_MS - 1234)
    fields = {"id": "1", "key": key, "timestamp": rfc3339(NOW_MS - 1234)}
    assert read_hit(fields, NOW_MS) == Hit("1", NOW_MS - 1234, 1, key)


def test_uuid7_key_that_contradicts_the_timestamp_is_refused() -> None:
    assert refusal({"id": "1", "key": uuid7(NOW_MS), "timestamp": rfc3339(NOW_MS + 1)}).field == "timestamp"


@pytest.mark.parametrize("time_ms", [NOW_MS - 3 * DAY_MS - 1, NOW_MS + 5 * 60_000 + 1])
def test_uuid7_key_from_outside_of_the_acceptance_window_is_refused_as_a_key(time_ms: int) -> None:
    assert refusal({"id": "1", "key": uuid7(time_ms)}).field == "key"


def test_header_gives_the_key_when_the_body_has_none() -> None:
    assert read_hit({"id": "1", "timestamp": NOW}, NOW_MS, PLAIN_KEY).key == PLAIN_KEY
    assert read_hit({"id": "1"}, NOW_MS, uuid7(NOW_MS)).timestamp_ms == NOW_MS


def test_header_may_repeat_the_key_of_the_body() -> None:
    fields = {"id": "1", "timestamp": NOW, "key": PLAIN_KEY}
    assert read_hit(fields, NOW_MS, PLAIN_KEY).key == PLAIN_KEY


def test_header_that_differs_from_the_key_of_the_body_is_refused() -> None:
    error = refusal({"id": "1", "timestamp": NOW, "key": PLAIN_KEY}, "order-18")
    assert error.field == "key"
    assert "Idempotency-Key" in error.detail


@pytest.mark.parametrize("header_key", ["", "k" * 129])
def test_key_of_the_header_obeys_the_rules_of_keys(header_key: str) -> None:
    assert refusal({"id": "1", "timestamp": NOW}, header_key).field == "key"


def test_header_key_alone_needs_a_time_as_any_key_does() -> None:
    assert refusal({"id": "1"}, PLAIN_KEY).field == "key"


@pytest.mark.parametrize(
    ("key", "time_ms"),
    [
        ("00000000-0000-7000-8000-000000000000", 0),
        ("017f22e2-79b0-7cc3-98c4-dc0c0c07398f", 1_645_557_742_000),  # the example of RFC 9562
        ("017F22E2-79B0-7CC3-98C4-DC0C0C07398F", 1_645_557_742_000),
        ("ffffffff-ffff-7fff-bfff-ffffffffffff", 2**48 - 1),
        ("017f22e2-79b0-4cc3-98c4-dc0c0c07398f", None),  # version 4
        ("017f22e2-79b0-7cc3-c8c4-dc0c0c07398f", None),  # another variant
        ("017f22e279b07cc398c4dc0c0c07398f", None),
        ("{017f22e2-79b0-7cc3-98c4-dc0c0c07398f}", None),
        ("017f22e2-79b0-7cc3-98c4-dc0c0c07398f\n", None),
        (PLAIN_KEY, None),
        ("", None),
    ],
)
def test_only_a_uuid7_in_its_usual_form_holds_a_time(key: str, time_ms: int | None) -> None:
    assert uuid7_time_ms(key) == time_ms
