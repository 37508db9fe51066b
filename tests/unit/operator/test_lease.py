"""Only one operator is at work, and nobody waits for one that is gone."""

from __future__ import annotations

from hitcounter_operator.lease import Lease

from tests.unit.operator.fakes import FakeLeases, FakeTime

SECONDS = 20.0


class Pair:
    """Two operators that want the same lease."""

    def __init__(self) -> None:
        self.time = FakeTime()
        self.leases = FakeLeases()
        self.first, self.second = (
            Lease(self.leases, name="lease", identity=name, seconds=SECONDS, monotonic=self.time.clock.monotonic)
            for name in ("first", "second")
        )


async def test_first_takes_it_and_second_is_told_by_whom() -> None:
    pair = Pair()
    assert await pair.first.hold() is None
    assert await pair.second.hold() == "first"
    assert (pair.first.is_held, pair.second.is_held) == (True, False)


async def test_holder_that_renews_keeps_it_for_ever() -> None:
    pair = Pair()
    for _ in range(100):
        assert await pair.first.hold() is None
        pair.time.go(SECONDS / 2)
        assert await pair.second.hold() == "first"


async def test_silent_holder_is_replaced_after_its_time_and_not_before() -> None:
    pair = Pair()
    await pair.first.hold()
    assert await pair.second.hold() == "first"
    pair.time.go(SECONDS)
    assert await pair.second.hold() == "first"
    pair.time.go(1)
    assert await pair.second.hold() is None
    assert pair.leases.record is not None
    assert pair.leases.record.transitions == 2
    assert not pair.first.is_held
    assert await pair.first.hold() == "second"


async def test_lease_that_was_given_back_is_taken_at_once() -> None:
    pair = Pair()
    await pair.first.hold()
    await pair.second.hold()
    await pair.first.release()
    assert await pair.second.hold() is None


async def test_nobody_gives_back_what_another_has() -> None:
    pair = Pair()
    await pair.first.hold()
    await pair.second.hold()
    pair.time.go(SECONDS + 1)
    await pair.second.hold()
    await pair.first.release()
    assert pair.leases.record is not None
    assert pair.leases.record.holder == "second"


async def test_one_that_was_slower_to_write_does_not_have_it() -> None:
    pair = Pair()
    pair.leases.is_beaten = True
    assert await pair.first.hold() == "somebody who was quicker"
    assert not pair.first.is_held


async def test_restarted_process_takes_up_its_own_lease() -> None:
    pair = Pair()
    await pair.first.hold()
    again = Lease(pair.leases, name="lease", identity="first", seconds=SECONDS, monotonic=pair.time.clock.monotonic)
    assert await again.hold() is None
