"""What holds of every decision, whatever is seen: found by trying to break it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from math import nan

from hitcounter_operator.decide import Decision, Hold, Memory, Policy, decide, explain
from hitcounter_operator.looks import IndexerCounters, Observation
from hypothesis import given
from hypothesis import strategies as st

amounts = st.floats(0, 1e9)
broken = st.none() | st.sampled_from([nan, float("inf"), float("-inf"), -1.0])
counters = st.builds(IndexerCounters, amounts | st.just(nan), amounts, amounts)
indexers = st.none() | st.dictionaries(st.sampled_from("abcd"), counters, max_size=4)
pods = st.integers(0, 50)
policies = st.builds(
    lambda least, more, **others: Policy(min_replicas=least, max_replicas=least + more, **others),
    least=st.integers(0, 10),
    more=st.integers(0, 40),
    target_utilization=st.floats(0.1, 1.0),
    drain_target_seconds=st.floats(1.0, 600.0),
    cooldown_seconds=st.floats(0.0, 3600.0),
    start_seconds=st.floats(0.0, 300.0),
    hits_per_busy_second=st.floats(1.0, 1e6),
)
observations = st.builds(
    Observation,
    at_seconds=st.floats(0, 1e6),
    replicas=pods,
    ready_replicas=pods,
    accepted_hits=amounts | broken,
    backlog_hits=amounts | broken,
    indexers=indexers,
    pod_start_seconds=st.lists(st.floats(), max_size=3),
)


def follow(looks: list[Observation], policy: Policy) -> list[Decision]:
    """Decide on one look after the other."""
    decisions: list[Decision] = []
    memory = Memory()
    for look in looks:
        decisions.append(decide(look, memory, policy))
        memory = decisions[-1].memory
    return decisions


def at_steps(looks: list[Observation], seconds: float = 5.0) -> list[Observation]:
    """Return the looks at equal distances, as a loop has them."""
    return [replace(look, at_seconds=place * seconds) for place, look in enumerate(looks)]


@given(st.lists(observations, min_size=1, max_size=8), policies)
def test_no_decision_is_outside_of_its_bounds(looks: list[Observation], policy: Policy) -> None:
    for decision in [*follow(looks, policy), *follow(at_steps(looks), policy)]:
        assert policy.min_replicas <= decision.replicas <= policy.max_replicas


@given(st.lists(observations, min_size=1, max_size=8), policies)
def test_nobody_goes_while_a_number_is_unknown(looks: list[Observation], policy: Policy) -> None:
    for decision in [*follow(looks, policy), *follow(at_steps(looks), policy)]:
        if decision.unknown:
            assert decision.replicas >= min(decision.current_replicas, policy.max_replicas)


@given(
    st.lists(observations, min_size=1, max_size=8), policies, broken, st.sampled_from(["backlog_hits", "accepted_hits"])
)
def test_a_number_that_makes_no_sense_moves_nothing_but_to_the_bounds(
    looks: list[Observation], policy: Policy, number: float | None, name: str
) -> None:
    changes: Mapping[str, float | None] = {name: number}
    last = replace(looks[-1], **changes)  # type: ignore[arg-type]
    decision = follow(at_steps([*looks, last]), policy)[-1]
    assert decision.replicas == max(policy.min_replicas, min(policy.max_replicas, last.replicas))
    assert decision.hold in (Hold.UNKNOWN, Hold.PUSH_BACK)


@given(st.lists(observations, max_size=5), observations, policies, amounts, st.floats(0, 1e9), st.floats(0, 1e9))
def test_more_backlog_never_means_fewer(
    looks: list[Observation], last: Observation, policy: Policy, accepted: float, backlog: float, more: float
) -> None:
    last = replace(last, accepted_hits=accepted)
    fewer, greater = (
        follow(at_steps([*looks, replace(last, backlog_hits=hits)]), policy)[-1] for hits in (backlog, backlog + more)
    )
    assert fewer.replicas <= greater.replicas


@given(st.lists(observations, max_size=5), observations, policies, amounts, st.floats(0, 1e9), st.floats(0, 1e9))
def test_a_higher_arrival_rate_never_means_fewer(
    looks: list[Observation], last: Observation, policy: Policy, accepted: float, arrived: float, more: float
) -> None:
    before = replace(last, accepted_hits=accepted)
    fewer, greater = (
        follow(at_steps([*looks, before, replace(last, accepted_hits=accepted + hits)]), policy)[-1]
        for hits in (arrived, arrived + more)
    )
    assert fewer.replicas <= greater.replicas


@given(policies, st.floats(0, 1e6), st.floats(0, 1e8), pods, st.integers(0, 12))
def test_constant_input_never_moves_the_number_up_and_down(
    policy: Policy, arrival: float, backlog: float, replicas: int, start_looks: int
) -> None:
    """Pods become ready some looks after they were asked for, as real ones do."""
    asked = [replicas] * (start_looks + 1)
    memory = Memory()
    for turn in range(200):
        look = Observation(turn * 20.0, asked[-1], asked[-1 - start_looks], arrival * turn * 20.0, backlog, {})
        decision = decide(replace(look, indexers={"a": IndexerCounters(0.0, 0.0, 0.0)}), memory, policy)
        memory = decision.memory
        asked.append(decision.replicas)
    moves = [after - before for before, after in pairwise(asked) if after != before]
    assert sum(before * after < 0 for before, after in pairwise(moves)) <= 1, asked
    settled = asked[-(len(asked) // 10) :]
    assert policy.cooldown_seconds > 20.0 * 150 or len(set(settled)) == 1, asked


@given(st.lists(observations, min_size=1, max_size=8), policies)
def test_every_decision_can_be_said_in_one_line(looks: list[Observation], policy: Policy) -> None:
    for decision in follow(at_steps(looks), policy):
        sentence = explain(decision)
        assert sentence
        assert "\n" not in sentence
        if decision.terms is None:
            assert sentence.startswith(("held at ", "kept to "))


@given(st.lists(observations, min_size=1, max_size=8), policies)
def test_memory_stays_small_however_long_it_is_carried(looks: list[Observation], policy: Policy) -> None:
    for decision in follow(at_steps(looks * 20), policy):
        assert len(decision.memory.recommendations) <= policy.max_replicas - policy.min_replicas + 1


@given(st.lists(observations, min_size=1, max_size=8), policies)
def test_terms_add_up_to_what_is_wanted(looks: list[Observation], policy: Policy) -> None:
    for decision in follow(at_steps(looks), policy):
        if decision.terms is not None:
            total = decision.terms.demand + decision.terms.catch_up + decision.terms.dead_time
            assert total - 1e-6 <= decision.terms.wanted <= total + 1
            assert min(decision.terms.demand, decision.terms.catch_up, decision.terms.dead_time) >= 0
