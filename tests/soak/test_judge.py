"""What a judge of a soak finds too late, what it knows to be waited for by design, and when it blames nobody."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.chaos.conductor import Incident
from tests.chaos.schedule import Fault, Kind
from tests.soak.judge import AS_OF, GROWTH_LIMIT_BYTES, MEMORY, RECOVERY, TODAY, find_recovery_seconds, judge
from tests.soak.watch import Moment

MIB = 1024 * 1024


def moment(at: float, **changes: Any) -> Moment:
    usual: dict[str, Any] = {
        "as_of_lag_seconds": 1.0,
        "oldest_age_seconds": 0.5,
        "today_lag_seconds": 2.0,
        "accepted": 1000,
        "backlog": 300,
        "entries_added": 900,
        "entries_in_flight": 300,
        "resident_bytes": {"indexer-0": 80 * MIB},
        "foreign_share": 0.0,
        "idle_share": 0.4,
        "late_seconds": 0.01,
    }
    return Moment(at_seconds=at, **{**usual, **changes})


def incident(kind: Kind, began: float, undone: float) -> Incident:
    return Incident(Fault(began, kind, "somebody", undone - began), began, undone, undone)


def watched(seconds: int, change: Callable[[int], dict[str, Any]] = lambda _: {}) -> list[Moment]:
    return [moment(float(at), **change(at)) for at in range(-10, seconds)]


def checks(incidents: Sequence[Incident], moments: Sequence[Moment]) -> list[str]:
    return [breach.check for breach in judge(incidents, moments)]


KILLED = incident(Kind.KILL_INDEXER, 10.0, 13.0)
RED = incident(Kind.INDEX_RED, 10.0, 310.0)


def test_a_run_in_which_nobody_waits_has_no_breach() -> None:
    assert judge([KILLED], watched(120)) == []


def test_entries_that_nobody_takes_over_are_a_breach_of_the_as_of_and_of_the_recovery() -> None:
    moments = watched(
        200, lambda at: {"as_of_lag_seconds": max(1.0, at - 10.0), "oldest_age_seconds": max(1.0, at - 10)}
    )
    as_of, recovery = judge([KILLED], moments)
    assert recovery.check == RECOVERY
    assert recovery.sentence == (
        "at 1:13, 60 s after the end of 'kill indexer', the oldest hit was 64 s old and the as-of 64 s behind "
        "(normal: up to 10 s)"
    )
    assert as_of.check == AS_OF
    assert as_of.sentence == (
        "from 1:11 to 3:19 the as-of was up to 189 s behind (limit 60 s); the last fault was 'kill indexer'"
    )
    assert as_of.is_judged


def test_the_as_of_may_wait_for_a_red_day_and_a_minute_more_but_no_longer() -> None:
    late = {"as_of_lag_seconds": 300.0, "oldest_age_seconds": 300.0}
    assert checks([RED], watched(420, lambda at: late if 10 <= at < 360 else {})) == []
    assert set(checks([RED], watched(420, lambda at: late if 10 <= at < 400 else {}))) == {AS_OF, RECOVERY}


def test_a_red_day_may_hold_up_hits_of_today_only_until_it_is_noticed() -> None:
    assert checks([RED], watched(360, lambda at: {"today_lag_seconds": 39.0 if at >= 10 else 1.0})) == []
    (breach,) = judge([RED], watched(420, lambda at: {"today_lag_seconds": 41.0 if 100 <= at < 200 else 1.0}))
    assert breach.check == TODAY
    assert breach.sentence.startswith("from 1:40 to 3:19 hits of today waited up to 41 s to be countable (limit 40 s)")


def test_a_killed_indexers_hits_may_wait_until_they_are_taken_over() -> None:
    assert checks([KILLED], watched(120, lambda at: {"today_lag_seconds": 45.0 if 12 <= at < 60 else 1.0})) == []
    assert checks([KILLED], watched(120, lambda at: {"today_lag_seconds": 61.0 if 12 <= at < 60 else 1.0})) == [TODAY]


def test_recovery_that_another_fault_keeps_waiting_by_design_is_judged_when_that_is_over() -> None:
    killed = incident(Kind.KILL_INDEXER, 5.0, 8.0)
    late = {"as_of_lag_seconds": 50.0, "oldest_age_seconds": 50.0}
    assert checks([killed, RED], watched(420, lambda at: late if 5 <= at < 320 else {})) == []


def test_recovery_is_not_judged_where_the_run_ended_before_its_time() -> None:
    assert checks([KILLED], watched(60, lambda at: {"oldest_age_seconds": 20.0})) == []


@pytest.mark.parametrize(
    "busy",
    [{"foreign_share": 0.5, "idle_share": 0.0}, {"late_seconds": 3.0}],
    ids=["others use the CPU", "the load generator is kept from running"],
)
def test_nobody_is_blamed_while_the_machine_does_other_work(busy: dict[str, float]) -> None:
    moments = watched(200, lambda at: {"today_lag_seconds": 100.0 if at == 90 else 1.0, **busy})
    (breach,) = judge([KILLED], moments)
    assert not breach.is_judged


def test_other_work_is_no_excuse_where_there_was_cpu_to_spare() -> None:
    spare = {"foreign_share": 0.3, "idle_share": 0.3}
    (breach,) = judge([KILLED], watched(200, lambda at: {"today_lag_seconds": 100.0 if at == 90 else 1.0, **spare}))
    assert breach.is_judged


def test_a_process_that_grows_without_end_is_a_breach_however_busy_the_machine_is() -> None:
    def grow(at: int) -> dict[str, Any]:
        return {"resident_bytes": {"indexer-0": 80 * MIB + max(0, at) * 2 * MIB}, "foreign_share": 1.0}

    (breach,) = judge([], watched(100, grow))
    assert breach.check == MEMORY
    assert breach.at_seconds == GROWTH_LIMIT_BYTES / (2 * MIB) + 1
    assert breach.is_judged


def test_recovery_lasts_until_both_the_oldest_hit_and_the_as_of_are_as_usual() -> None:
    def change(at: int) -> dict[str, Any]:
        return {"as_of_lag_seconds": 50.0 if 15 <= at < 20 else 1.0, "oldest_age_seconds": 20.0 if at == 25 else 1.0}

    assert find_recovery_seconds(KILLED, [KILLED], watched(60, change)) == 12.0
    assert find_recovery_seconds(KILLED, [KILLED], watched(26, change)) == float("inf")
    assert find_recovery_seconds(KILLED, [KILLED], watched(60)) == 0.0
    after = incident(Kind.DEMOTE_REDIS, 16.0, 30.0)
    assert find_recovery_seconds(KILLED, [KILLED, after], watched(60, change)) == float("inf")
