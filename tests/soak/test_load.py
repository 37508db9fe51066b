"""The load of a soak: one hit in a thousand of yesterday, a rate that may be lowered, and hits of today counted."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from tests.chaos.record import TrackedHit
from tests.soak.load import SoakHits, SoakRecord, Tempo

NOON_MS = 1_764_331_200_000  # 2025-11-28T12:00:00Z


def test_about_one_hit_in_a_thousand_is_of_yesterday_with_a_key() -> None:
    hits = SoakHits(1, Tempo(1500.0), NOON_MS)
    late = [hit for hit in (hits.make() for _ in range(20_000)) if hit.timestamp is not None]
    assert 10 <= len(late) <= 35
    assert {datetime.fromisoformat(hit.timestamp or "").date().isoformat() for hit in late} == {"2025-11-27"}
    assert all(hit.key for hit in late)


def test_at_a_low_rate_there_is_still_about_one_hit_of_yesterday_a_second() -> None:
    hits = SoakHits(1, Tempo(100.0), NOON_MS)
    late = sum(hits.make().timestamp is not None for _ in range(10_000))
    assert 70 <= late <= 130


def test_only_hits_of_today_are_counted_as_such_and_each_once() -> None:
    record, today, late = SoakRecord(), TrackedHit("plain/1", key="k"), TrackedHit("late/1", key="l", timestamp="t")
    for hit in (today, late, today):
        record.note_sent(hit)
        record.note_acknowledged(hit, 1000)
    assert (record.count_today_before(1000), record.count_today_before(1001)) == (0, 1)


def test_tempo_keeps_to_its_rate_and_to_a_lower_one_from_then_on() -> None:
    tempo, sent = Tempo(100.0), Counter[str]()
    for now_ms in range(2000):
        if now_ms == 1000:
            tempo.rate = 50.0
        while tempo.take(now_ms * 1_000_000) is not None:
            sent["before" if now_ms < 1000 else "after"] += 1
    assert (sent["before"], sent["after"]) == (100, 50)
    tempo.stop()
    assert tempo.take(10**12) is None
    assert tempo.is_over(0)
