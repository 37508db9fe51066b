"""What holds for every recommendation, whatever the ledger shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from hitcounter.ledger import IndexerWork, Ledger, StreamStatus
from hitcounter.scaling import Memory, Policy, Reason, Recommendation, Sample, explain, recommend
from hypothesis import given
from hypothesis import strategies as st

counts = st.integers(0, 10**12)
policies = st.builds(
    Policy,
    target_utilization=st.floats(0.01, 1.0),
    drain_target_seconds=st.floats(1.0, 3600.0),
    start_seconds=st.floats(0.0, 3600.0),
    hits_per_busy_second=st.floats(1.0, 1e9),
)
statuses = st.builds(
    StreamStatus,
    ledger=st.builds(Ledger, accepted=counts, indexed=counts, duplicate=counts, dead=counts, replayed=counts),
    entries=st.just(0),
    oldest_ms=st.none(),
    as_of_ms=st.none(),
    now_ms=st.integers(0, 10**13),
    work=st.builds(IndexerWork, counts, counts, counts),
    indexers=st.integers(0, 1000),
)
any_samples = st.lists(st.builds(Sample, statuses, st.floats(0, 1e9)) | st.none(), min_size=1, max_size=8)
steps = st.lists(
    st.tuples(
        st.integers(500, 20_000),  # milliseconds
        st.integers(0, 10**7),  # accepted
        st.floats(0.0, 1.0),  # share of the backlog that is settled
        st.integers(0, 10**6),  # busy milliseconds
        st.integers(0, 10**6),  # pushed back
    ),
    min_size=2,
    max_size=12,
)
"""A course in which nothing is wrong."""


def build_course(course: Sequence[tuple[int, int, float, int, int]]) -> list[Sample]:
    now_ms, ledger, work = 1_764_000_000_000, Ledger(), IndexerWork()
    samples = []
    for ms, accepted, share, busy_ms, pushed_back in course:
        now_ms += ms
        ledger = replace(ledger, accepted=ledger.accepted + accepted)
        settled = int(ledger.backlog * share)
        ledger = replace(ledger, indexed=ledger.indexed + settled)
        work = IndexerWork(work.busy_ms + busy_ms, work.hits + settled, work.pushed_back + pushed_back)
        status = StreamStatus(ledger, entries=0, oldest_ms=None, as_of_ms=None, now_ms=now_ms, work=work, indexers=3)
        samples.append(Sample(status, now_ms / 1000))
    return samples


def follow(samples: Sequence[Sample | None], policy: Policy) -> list[Recommendation]:
    recommendations: list[Recommendation] = []
    memory = Memory()
    for sample in samples:
        recommendations.append(recommend(sample, memory, policy))
        memory = recommendations[-1].memory
    return recommendations


def add_accepted(sample: Sample, hits: int) -> Sample:
    ledger = sample.status.ledger
    return replace(sample, status=replace(sample.status, ledger=replace(ledger, accepted=ledger.accepted + hits)))


def compare(fewer: Recommendation, more: Recommendation) -> None:
    """Check that the second number is not lower, as far as both are known."""
    assert (fewer.indexers_wanted is None) <= (more.indexers_wanted is None)
    if fewer.indexers_wanted is not None and more.indexers_wanted is not None:
        assert fewer.indexers_wanted <= more.indexers_wanted


@given(any_samples, policies)
def test_number_is_never_negative_and_no_input_breaks_it(samples: list[Sample | None], policy: Policy) -> None:
    for recommendation in follow(samples, policy):
        assert recommendation.indexers_wanted is None or recommendation.indexers_wanted >= 0
        for values in (recommendation.rates, recommendation.terms):
            if values is not None:
                numbers = [getattr(values, name) for name in values.__slots__]
                assert all(math.isfinite(number) and number >= 0 for number in numbers), values


@given(any_samples, policies)
def test_number_without_rates_is_unknown_and_says_why(samples: list[Sample | None], policy: Policy) -> None:
    for recommendation in follow(samples, policy):
        assert (recommendation.terms is None) == (recommendation.reason is Reason.UNKNOWN)
        assert (recommendation.indexers_wanted is None) == bool(recommendation.unknown)
        if recommendation.terms is None:
            assert recommendation.indexers_wanted is None


@given(steps, policies)
def test_everything_is_known_from_the_second_observation_unless_elasticsearch_accepts_nothing(
    course: list[tuple[int, int, float, int, int]], policy: Policy
) -> None:
    for recommendation in follow(build_course(course), policy)[1:]:
        assert recommendation.terms is not None
        if recommendation.indexers_wanted is None:
            assert recommendation.reason is Reason.PUSH_BACK


@given(steps, policies, st.integers(0, 10**9))
def test_more_arriving_hits_never_mean_fewer_indexers(
    course: list[tuple[int, int, float, int, int]], policy: Policy, more: int
) -> None:
    samples = build_course(course)
    compare(follow(samples, policy)[-1], follow([*samples[:-1], add_accepted(samples[-1], more)], policy)[-1])


@given(steps, policies, st.integers(0, 10**9))
def test_more_backlog_never_means_fewer_indexers(
    course: list[tuple[int, int, float, int, int]], policy: Policy, more: int
) -> None:
    samples = build_course(course)
    compare(follow(samples, policy)[-1], follow([add_accepted(one, more) for one in samples], policy)[-1])


@given(steps, policies)
def test_zero_is_recommended_only_if_nothing_arrived_and_nothing_waits(
    course: list[tuple[int, int, float, int, int]], policy: Policy
) -> None:
    for recommendation in follow(build_course(course), policy)[1:]:
        assert recommendation.rates is not None
        is_idle = not recommendation.rates.arrival_hits_per_second and not recommendation.rates.backlog_hits
        if is_idle:
            assert recommendation.indexers_wanted == 0
        if recommendation.indexers_wanted == 0:
            assert recommendation.rates.arrival_hits_per_second < 1e-3 or is_idle


@given(any_samples, policies)
def test_every_recommendation_can_be_explained_in_one_line(samples: list[Sample | None], policy: Policy) -> None:
    for recommendation in follow(samples, policy):
        sentence = explain(recommendation)
        assert sentence
        assert "\n" not in sentence


@given(steps, policies)
def test_memory_stays_small(course: list[tuple[int, int, float, int, int]], policy: Policy) -> None:
    for recommendation in follow(build_course(course * 10), policy):
        assert len(recommendation.memory.samples) <= 10


@given(
    st.floats(1000, 100_000),
    st.integers(0, 60),
    st.integers(0, 999),
    st.floats(0.5, 1.0),
)
def test_processes_that_read_one_ledger_reach_close_numbers(
    arrival: float, started_seconds: int, phase_ms: int, busy_share: float
) -> None:
    """One reads each second since the beginning, another at other moments since it was started."""
    indexers, speed = 8, 20_000.0
    share = min(busy_share, arrival / speed)

    def sample(ms: int) -> Sample:
        hits = int(arrival * ms / 1000)
        work = IndexerWork(int(hits / speed * 1000), hits)
        ledger = Ledger(accepted=hits + int(arrival * share), indexed=hits)
        status = StreamStatus(ledger, 0, None, None, 1_764_000_000_000 + ms, work=work, indexers=indexers)
        return Sample(status, ms / 1000)

    first = follow([sample(second * 1000) for second in range(90)], Policy())[-1]
    second = follow([sample(second * 1000 + phase_ms) for second in range(started_seconds, 90)], Policy())[-1]
    assert first.indexers_wanted is not None
    assert second.indexers_wanted is not None
    assert abs(first.indexers_wanted - second.indexers_wanted) <= 1
