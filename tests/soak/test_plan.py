"""The plan of a soak: the same seed, the same faults; each with time to recover before the next."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.schedule import Kind
from tests.soak.plan import LIMITS, RECOVERY_SECONDS, build_short, build_soak

seeds = st.integers(0, 2**32)
durations = st.floats(600, 7200)


@given(seeds, durations)
def test_every_fault_has_the_time_to_recover_before_the_next_and_before_the_end(seed: int, duration: float) -> None:
    faults = build_soak(seed, 1000.0, duration).faults
    assert {fault.kind for fault in faults} == set(LIMITS)
    for before, after in pairwise(faults):
        assert after.at_seconds - before.end_seconds >= RECOVERY_SECONDS
    assert faults[-1].end_seconds + RECOVERY_SECONDS <= duration


@given(seeds)
def test_seed_replays_a_soak(seed: int) -> None:
    assert build_soak(seed, 1000.0, 1200.0) == build_soak(seed, 1000.0, 1200.0)


def test_in_twenty_minutes_yesterday_is_red_for_five_and_read_only_for_three() -> None:
    lengths = {fault.kind: fault.length_seconds for fault in build_soak(1, 1000.0, 1200.0).faults}
    assert lengths[Kind.INDEX_RED] == 300.0
    assert lengths[Kind.WRITES_BLOCKED] == 180.0


def test_an_hour_has_three_rounds() -> None:
    assert len(build_soak(1, 1000.0, 3600.0).faults) == 3 * len(build_soak(1, 1000.0, 1200.0).faults)


def test_a_soak_that_is_too_short_for_its_faults_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 600 seconds"):
        build_soak(1, 1000.0, 300.0)


def test_the_short_form_has_three_faults_within_three_minutes() -> None:
    plan = build_short(1, 1000.0)
    assert len({fault.kind for fault in plan.faults}) == 3
    assert max(fault.end_seconds for fault in plan.faults) < plan.duration_seconds < 180
