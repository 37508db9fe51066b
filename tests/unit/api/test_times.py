"""Times as the API shows them."""

from __future__ import annotations

from hitcounter.hits import parse_timestamp
from hitcounter_api.times import format_time
from hypothesis import given
from hypothesis import strategies as st


def test_a_time_has_milliseconds_and_ends_with_z() -> None:
    assert format_time(1_795_507_200_000) == "2026-11-24T08:00:00.000Z"


@given(st.integers(0, 253_402_300_799_999))
def test_a_shown_time_is_read_as_the_same(time_ms: int) -> None:
    assert parse_timestamp(format_time(time_ms)) == time_ms
