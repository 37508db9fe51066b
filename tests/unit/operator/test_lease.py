"""Only one operator is at work, and nobody waits for one that is gone."""

from __future__ import annotations

import re
from datetime import datetime, tzinfo

import pytest
from hitcounter_operator.lease import Lease

from tests.unit.operator.fakes import FakeCluster, FakeTime

SECONDS = 20.0


class Pair:
    """Two operators that want the same lease."""

    def __init__(self) -> None:
        self.time = FakeTime()
        self.cluster = FakeCluster()
        self.first, self.second = (
            Lease(self.cluster, name="lease", identity=name, seconds=SECONDS, monotonic=self.time.clock.monotonic)
            for name in ("first", "second")
        )


async def test_first_takes_it_and_second_is_told_by_whom() -> None:
    pair = Pair()
    assert await pair.first.acquire() is None
    assert await pair.second.acquire() == "first"
    assert (pair.first.is_held, pair.second.is_held) == (True, False)


async def test_holder_that_renews_keeps_it_for_ever() -> None:
    pair = Pair()
    for _ in range(100):
        assert await pair.first.acquire() is None
        pair.time.go(SECONDS / 2)
        assert await pair.second.acquire() == "first"


async def test_silent_holder_is_replaced_after_its_time_and_not_before() -> None:
    pair = Pair()
    await pair.first.acquire()
    assert await pair.second.acquire() == "first"
    pair.time.go(SECONDS)
    assert await pair.second.acquire() == "first"
    pair.time.go(1)
    assert await pair.second.acquire() is None
    assert pair.cluster.lease is not None
    assert pair.cluster.lease.spec is not None
    assert pair.cluster.lease.spec.lease_transitions == 2
    assert not pair.first.is_held
    assert await pair.first.acquire() == "second"


async def test_holder_with_a_duration_in_fractions_gives_up_when_another_may_take_it() -> None:
    time, cluster = FakeTime(), FakeCluster()
    first, second = (
        Lease(cluster, name="lease", identity=name, seconds=18.9, monotonic=time.clock.monotonic)
        for name in ("first", "second")
    )
    assert await first.acquire() is None
    assert await second.acquire() == "first"
    time.go(18.5)
    assert await second.acquire() is None
    assert not first.is_held


async def test_lease_that_was_given_back_is_taken_at_once() -> None:
    pair = Pair()
    await pair.first.acquire()
    await pair.second.acquire()
    await pair.first.release()
    assert await pair.second.acquire() is None


async def test_nobody_gives_back_what_another_has() -> None:
    pair = Pair()
    await pair.first.acquire()
    await pair.second.acquire()
    pair.time.go(SECONDS + 1)
    await pair.second.acquire()
    await pair.first.release()
    assert pair.cluster.holder == "second"


async def test_one_that_was_slower_to_write_does_not_have_it() -> None:
    pair = Pair()
    pair.cluster.is_beaten = True
    assert await pair.first.acquire() == "another operator, which was faster"
    assert not pair.first.is_held


async def test_restarted_process_takes_up_its_own_lease() -> None:
    pair = Pair()
    await pair.first.acquire()
    again = Lease(pair.cluster, name="lease", identity="first", seconds=SECONDS, monotonic=pair.time.clock.monotonic)
    assert await again.acquire() is None


async def test_lease_is_written_as_kubernetes_takes_it_and_says_since_when_it_is_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Midnight(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Midnight:
            return cls(2026, 11, 24, tzinfo=tz)

    monkeypatch.setattr("hitcounter_operator.lease.datetime", Midnight)
    pair = Pair()
    await pair.first.acquire()
    assert pair.cluster.lease is not None
    spec = pair.cluster.lease.spec
    assert spec is not None
    assert spec.renew_time is not None
    # MicroTime has six digits after the point, even if they are all 0.
    assert re.fullmatch(r"2026-11-24T00:00:00\.\d{6}\+00:00", spec.renew_time.isoformat())
    assert spec.lease_duration_seconds == SECONDS
    monkeypatch.undo()
    await pair.first.acquire()
    renewed = pair.cluster.lease.spec
    assert renewed is not None
    assert renewed.renew_time != renewed.acquire_time == spec.acquire_time
