"""What the sampler and the readers complain of: each lie is found, and the truth is not."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest
from hitcounter_benchmark.connection import Answer

from tests.chaos.reader import find_fault
from tests.chaos.record import IdRecord
from tests.chaos.report import find_percentiles, find_recovery_seconds
from tests.chaos.sampler import Look, find_fault_of_status, find_faults

GOOD = Look(
    accepted=10,
    indexed=5,
    duplicate=1,
    dead=1,
    in_stream=3,
    in_dead_letters=1,
    as_of_ms=1000,
    oldest_ms=1000,
    redis_ms=1500,
)


def test_a_ledger_that_agrees_with_the_stream_is_not_complained_of() -> None:
    assert find_faults(GOOD, GOOD, least_accepted=10, most_accepted=10) == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"in_stream": 2}, "backlog"),
        ({"indexed": 6}, "backlog"),
        ({"in_dead_letters": 0}, "dead"),
        ({"accepted": 9, "in_stream": 2}, "acknowledged"),
        ({"accepted": 11, "in_stream": 4}, "sent"),
        ({"oldest_ms": 999}, "not settled"),
        ({"as_of_ms": 999}, "as-of went back"),
        ({"indexed": 4, "in_stream": 4}, "indexed went back"),
    ],
)
def test_a_ledger_that_lies_is_complained_of(change: dict[str, int], complaint: str) -> None:
    found = find_faults(GOOD, replace(GOOD, **change), least_accepted=10, most_accepted=10)
    assert any(complaint in fault for fault in found), found


def test_an_as_of_ahead_of_a_clock_that_was_set_back_may_give_way() -> None:
    now = replace(GOOD, as_of_ms=900, redis_ms=950)
    assert find_faults(GOOD, now, least_accepted=10, most_accepted=10) == []


def test_entries_that_are_too_many_to_be_counted_are_not_complained_of() -> None:
    now = replace(GOOD, in_stream=-1, in_dead_letters=-1)
    assert find_faults(GOOD, now, least_accepted=10, most_accepted=10) == []


def test_a_status_that_does_not_balance_is_complained_of() -> None:
    status = {"accepted": 10, "indexed": 5, "duplicate": 1, "dead": 1, "backlog": 3}
    assert find_fault_of_status(status) is None
    assert find_fault_of_status(status | {"backlog": 4}) is not None
    assert find_fault_of_status(status | {"accepted": 6, "backlog": -1}) is not None


@pytest.mark.parametrize(("counted", "is_true"), [(1, False), (2, True), (3, True), (4, False)])
def test_a_count_is_held_against_what_was_acknowledged_before_its_as_of_and_against_what_was_sent(
    counted: int, is_true: bool
) -> None:
    known = IdRecord(sent=3)
    known.acknowledged_ms.extend([1000, 1001, 2000])
    body = orjson.dumps({"id": "x", "counts": [{"reference": "3 days ago", "count": counted}]})
    answer = Answer(200, {"hitcounter-as-of": "1970-01-01T00:00:02.000Z"}, body)
    assert (find_fault(answer, known) is None) is is_true


def test_recovery_lasts_from_the_end_of_a_fault_until_the_as_of_reaches_it() -> None:
    assert find_recovery_seconds(1000, [(900, 800), (1500, 999), (3000, 1000), (4000, 3900)]) == 2.0
    assert find_recovery_seconds(5000, [(4000, 3900)]) == float("inf")


def test_percentiles_leave_out_what_was_meant_to_leave_during_a_fault() -> None:
    sent = [float(second) for second in range(100)]
    took = [1.0 if 40 <= second <= 60 else 0.002 for second in range(100)]
    assert find_percentiles(sent, took, [(40.0, 60.0)]) == pytest.approx({"p50": 2.0, "p99": 2.0})
