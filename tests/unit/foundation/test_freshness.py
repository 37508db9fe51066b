"""How long hits took to be countable, told from looks at the stream."""

from __future__ import annotations

from hitcounter.freshness import FRESH_SECONDS, FreshnessMeter, FreshnessReport
from hitcounter.ledger import Ledger, StreamStatus
from hypothesis import given
from hypothesis import strategies as st


def look(
    meter: FreshnessMeter, now_seconds: float, accepted: int, as_of_seconds: float | None, oldest: float | None = None
) -> FreshnessReport:
    return meter.observe(
        StreamStatus(
            Ledger(accepted=accepted),
            entries=0,
            oldest_ms=None if oldest is None else int(oldest * 1000),
            as_of_ms=None if as_of_seconds is None else int(as_of_seconds * 1000),
            now_ms=int(now_seconds * 1000),
        )
    )


def test_hits_are_fresh_once_the_as_of_has_passed_them() -> None:
    meter = FreshnessMeter()
    look(meter, 100, 50, 99)
    assert look(meter, 101, 80, 100).fresh_hits == 0
    report = look(meter, 102, 80, 101.5)
    assert (report.fresh_hits, report.late_hits, report.ages_seconds, report.lag_seconds) == (30, 0, [1.0], 0.0)


def test_hits_accepted_at_the_very_as_of_are_not_countable_yet() -> None:
    meter = FreshnessMeter()
    look(meter, 100, 0, 99)
    look(meter, 101, 5, 100)
    assert look(meter, 102, 5, 101).fresh_hits == 0


def test_hits_are_late_as_soon_as_their_time_is_over_and_only_once() -> None:
    meter = FreshnessMeter()
    look(meter, 100, 0, 99)
    look(meter, 101, 7, 99)
    assert look(meter, 101 + FRESH_SECONDS, 7, 99).late_hits == 0
    report = look(meter, 101.5 + FRESH_SECONDS, 7, 99)
    assert (report.late_hits, report.ages_seconds, report.lag_seconds) == (7, [], 0.5 + FRESH_SECONDS)
    report = look(meter, 200, 7, 150)
    assert (report.fresh_hits, report.late_hits, report.ages_seconds, report.lag_seconds) == (0, 0, [99.0], 0.0)


def test_hits_that_were_sampled_too_late_are_late() -> None:
    meter = FreshnessMeter()
    look(meter, 100, 0, 99)
    look(meter, 101, 7, 100)
    assert look(meter, 102 + FRESH_SECONDS, 7, 120).late_hits == 7


def test_lag_tells_the_age_of_what_was_there_before_the_first_sample() -> None:
    assert look(FreshnessMeter(), 100, 500, None, oldest=40).lag_seconds == 60


def test_an_as_of_that_stands_still_is_no_lag_where_nothing_came() -> None:
    meter = FreshnessMeter()
    look(meter, 100, 5, 99)
    assert look(meter, 10_000, 5, 99).lag_seconds == 0


def test_a_redis_that_lost_hits_is_followed_from_there() -> None:
    meter = FreshnessMeter()
    look(meter, 100, 500, 99)
    look(meter, 101, 3, 100)
    look(meter, 102, 5, 101)
    assert look(meter, 103, 5, 102.5).fresh_hits == 2


def test_an_outage_of_a_day_takes_little_memory() -> None:
    meter = FreshnessMeter()
    for second in range(20_000):
        look(meter, 100 + second, second, 99)
    assert len(meter._late) + len(meter._waiting) < 1100
    assert look(meter, 30_000, 20_000, 29_999).lag_seconds == 0


@given(st.lists(st.tuples(st.integers(0, 40_000), st.integers(0, 50), st.integers(0, 60_000)), max_size=60))
def test_every_hit_is_fresh_or_late_once(looks: list[tuple[int, int, int]]) -> None:
    meter, now_ms, accepted, judged = FreshnessMeter(), 0, 0, 0
    meter.observe(StreamStatus(Ledger(), entries=0, oldest_ms=None, as_of_ms=None, now_ms=0))
    for pause_ms, hits, behind_ms in [*looks, (1_000_000, 0, 0)]:
        now_ms, accepted = now_ms + pause_ms, accepted + hits
        as_of_ms = max(0, now_ms - behind_ms)
        report = meter.observe(StreamStatus(Ledger(accepted=accepted), 0, None, as_of_ms, now_ms))
        judged += report.fresh_hits + report.late_hits
    assert judged == accepted
