"""The schedule: the same seed, the same faults; every kind; nobody hit twice at once; all healed in the end."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.schedule import CALM_SECONDS, EDGES, RULES, Kind, build_schedule

seeds = st.integers(0, 2**32)
durations = st.floats(10, 600)


@given(seeds, durations)
def test_seed_replays_the_schedule(seed: int, duration: float) -> None:
    assert build_schedule(seed, duration) == build_schedule(seed, duration)


def test_another_seed_draws_other_faults() -> None:
    assert build_schedule(1, 300) != build_schedule(2, 300)


@given(seeds, durations)
def test_faults_come_in_order_after_a_calm_and_are_undone_before_the_end(seed: int, duration: float) -> None:
    faults = build_schedule(seed, duration)
    assert faults == sorted(faults, key=lambda fault: fault.at_seconds)
    for fault in faults:
        assert fault.at_seconds >= CALM_SECONDS
        assert fault.end_seconds <= duration - CALM_SECONDS + 0.02


@given(seeds, durations)
def test_faults_obey_the_rule_of_their_kind(seed: int, duration: float) -> None:
    for fault in build_schedule(seed, duration):
        rule = RULES[fault.kind]
        assert fault.victim in rule.victims
        assert rule.least_seconds - 0.01 <= fault.length_seconds <= rule.max_seconds + 0.01


@given(seeds, durations)
def test_victim_is_left_alone_until_its_last_fault_is_over(seed: int, duration: float) -> None:
    by_victim: dict[str, list[tuple[float, float]]] = {}
    for fault in build_schedule(seed, duration):
        rest_seconds = RULES[fault.kind].rest_seconds
        by_victim.setdefault(fault.victim, []).append((fault.at_seconds, fault.end_seconds + rest_seconds))
    for times in by_victim.values():
        assert all(before_end <= begin for (_, before_end), (begin, _) in pairwise(times))


def test_every_kind_has_a_rule_and_every_edge_its_turn() -> None:
    assert set(RULES) == set(Kind)
    hit = {fault.victim for fault in build_schedule(1, 600)}
    assert set(EDGES) <= hit


@pytest.mark.parametrize("seed", range(20))
def test_five_minutes_are_enough_for_fifty_faults_of_every_kind(seed: int) -> None:
    faults = build_schedule(seed, 300)
    assert len(faults) >= 50
    assert {fault.kind for fault in faults} == set(Kind)
