"""One look after the other: what is wanted, when it is held, and what is said about it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import inf, nan

import pytest
from hitcounter_operator.decide import BRAKE_SECONDS, Decision, Hold, Limit, Memory, Policy, decide, explain
from hitcounter_operator.looks import IndexerCounters, Observation

POLICY = Policy(min_replicas=1, max_replicas=20, cooldown_seconds=240.0, hits_per_busy_second=1000.0)
LOOK_SECONDS = 5.0


@dataclass
class Looks:
    """A row of looks at an installation that does what it is told; every test turns what it is about."""

    policy: Policy = POLICY
    replicas: int = 1
    observation: Observation = field(
        default_factory=lambda: Observation(
            at_seconds=0.0,
            replicas=1,
            ready_replicas=1,
            accepted_hits=0.0,
            backlog_hits=0.0,
            indexers={"indexer-0": IndexerCounters(0.0, 0.0, 0.0)},
        )
    )
    memory: Memory = field(default_factory=Memory)

    def look(
        self,
        *,
        arrival: float = 0.0,
        seconds: float = LOOK_SECONDS,
        settled: float = 0.0,
        busy: float = 0.0,
        retried: float = 0.0,
        **seen: object,
    ) -> Decision:
        """Look again after some seconds; arrival is a rate, settled, busy and retried are what the indexers did."""
        before = self.observation
        counters = {
            pod: IndexerCounters(one.settled_hits + settled, one.busy_seconds + busy, one.retried_documents + retried)
            for pod, one in (before.indexers or {}).items()
        }
        self.observation = replace(
            before,
            at_seconds=before.at_seconds + seconds,
            replicas=self.replicas,
            ready_replicas=self.replicas,
            accepted_hits=(before.accepted_hits or 0.0) + arrival * seconds,
            indexers=counters,
        )
        decision = decide(replace(self.observation, **seen), self.memory, self.policy)  # type: ignore[arg-type]
        self.memory, self.replicas = decision.memory, decision.replicas
        return decision


@pytest.fixture
def looks() -> Looks:
    """An installation that was looked at once, with one indexer and nothing to do."""
    started = Looks()
    started.look()
    return started


# ── the formula ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_worked_example_of_the_documentation_comes_to_its_terms(looks: Looks) -> None:
    looks.policy = replace(POLICY, hits_per_busy_second=10_000.0, max_replicas=10)
    decision = looks.look(arrival=28_000.0, backlog_hits=900_000.0)
    assert explain(decision) == "demand 4.0 + catch-up 3.0 + dead time 1.2 → 9"
    assert decision.replicas == 9


def test_beyond_a_bound_it_says_which(looks: Looks) -> None:
    looks.policy = replace(POLICY, max_replicas=6)
    decision = looks.look(arrival=5000.0)
    assert explain(decision) == "demand 7.1 + catch-up 0.0 + dead time 2.7 → 10, limited to 6 by maxReplicas"
    assert decision.limit is Limit.MAX


def test_nothing_to_do_means_the_least(looks: Looks) -> None:
    decision = looks.look()
    assert (decision.replicas, decision.hold, decision.limit) == (1, None, Limit.MIN)


def test_none_at_all_are_wanted_where_none_are_asked_for_and_nothing_is_to_be_done(looks: Looks) -> None:
    looks.policy = replace(POLICY, min_replicas=0, cooldown_seconds=10.0)
    for _ in range(3):
        looks.look()
    assert looks.replicas == 0
    first = looks.look(arrival=0.2, ready_replicas=0, indexers={})
    assert (first.replicas, first.unknown) == (1, ())


def test_indexers_that_keep_up_leave_no_dead_time(looks: Looks) -> None:
    looks.replicas = 5
    decision = looks.look(arrival=3000.0, settled=3000.0, busy=3.0)
    assert decision.terms is not None
    assert decision.terms.dead_time == 0.0


# ── what is learnt ───────────────────────────────────────────────────────────────────────────────────────────────────


def learnt_rate(decision: Decision) -> float:
    assert decision.rates is not None
    return decision.rates.hits_per_busy_second


def test_rate_of_an_indexer_is_learnt_from_its_busy_seconds(looks: Looks) -> None:
    decision = looks.look(arrival=1000.0, settled=8000.0, busy=4.0)
    assert learnt_rate(decision) == 2000.0


def test_rate_stays_known_while_there_is_nothing_to_do(looks: Looks) -> None:
    looks.look(settled=8000.0, busy=4.0)
    for _ in range(1000):
        assert learnt_rate(looks.look()) == 2000.0


def test_an_indexer_with_little_to_do_does_not_count_as_slow(looks: Looks) -> None:
    looks.look(settled=8000.0, busy=4.0)
    assert learnt_rate(looks.look(settled=100.0, busy=1.0)) == 2000.0


def test_an_indexer_that_is_faster_than_thought_is_believed_at_once(looks: Looks) -> None:
    assert learnt_rate(looks.look(settled=5000.0, busy=1.0)) == 5000.0


def test_a_lasting_change_of_rate_is_followed_within_minutes_of_work(looks: Looks) -> None:
    for _ in range(60):
        looks.look(settled=50_000.0, busy=5.0)
    for _ in range(60):
        decision = looks.look(settled=10_000.0, busy=5.0)
    assert 2000.0 <= learnt_rate(decision) < 2500.0


def test_a_process_that_began_anew_does_not_spoil_the_rate(looks: Looks) -> None:
    looks.look(settled=8000.0, busy=4.0)
    assert learnt_rate(looks.look(indexers={"indexer-0": IndexerCounters(10.0, 2.0, 0.0)})) == 2000.0


def test_rate_is_not_learnt_from_work_that_elasticsearch_sent_back(looks: Looks) -> None:
    looks.look(settled=8000.0, busy=4.0)
    assert learnt_rate(looks.look(settled=100.0, busy=5.0, retried=50.0)) == 2000.0


def test_start_up_time_is_learnt_from_the_pods_and_remembered(looks: Looks) -> None:
    first = looks.look(pod_start_seconds=(8.0, 12.0, 90.0))
    later = looks.look()
    assert first.rates is not None
    assert later.rates is not None
    assert (first.rates.start_seconds, later.rates.start_seconds) == (12.0, 12.0)


@pytest.mark.parametrize("seconds", [0.0, -5.0, nan, inf, 3600.0])
def test_a_pod_that_had_to_wait_for_something_teaches_no_start_up_time(looks: Looks, seconds: float) -> None:
    decision = looks.look(pod_start_seconds=(seconds,))
    assert decision.rates is not None
    assert decision.rates.start_seconds == POLICY.start_seconds


# ── holding what cannot be seen ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("number", [None, nan, inf, -inf, -1.0])
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("backlog_hits", "held at 7: the backlog is unknown"),
        ("accepted_hits", "held at 7: the accepted hits are unknown"),
    ],
)
def test_number_stays_where_it_is_while_one_it_follows_from_is_unknown(
    looks: Looks, name: str, sentence: str, number: float | None
) -> None:
    looks.replicas = 7
    decision = looks.look(**{name: number})  # type: ignore[arg-type]
    assert (decision.replicas, decision.hold, explain(decision)) == (7, Hold.UNKNOWN, sentence)


def test_first_look_after_a_start_only_takes_measure() -> None:
    looks = Looks(replicas=7)
    assert explain(looks.look(backlog_hits=90_000.0)) == "held at 7: this is the first observation"


def test_restart_of_the_operator_takes_nobody_away_before_the_cooldown_is_over() -> None:
    looks = Looks(replicas=7)
    looks.look()
    assert looks.look(seconds=100.0).replicas == 7
    assert looks.look(seconds=100.0).replicas == 7
    assert looks.look(seconds=100.0).replicas == 1


def test_ledger_that_stepped_back_is_not_read_as_quiet(looks: Looks) -> None:
    looks.look(arrival=3000.0)
    decision = looks.look(accepted_hits=0.0)
    assert explain(decision) == f"held at {decision.current_replicas}: the ledger went back"


def test_sudden_zero_after_a_failover_takes_nobody_away_before_the_cooldown_is_over(looks: Looks) -> None:
    looks.look(arrival=3000.0, backlog_hits=60_000.0)
    there = looks.replicas
    assert there > 5
    looks.observation = replace(looks.observation, accepted_hits=0.0)
    for _ in range(int(POLICY.cooldown_seconds / LOOK_SECONDS)):
        assert looks.look().replicas == there
    for _ in range(2):
        decision = looks.look()
    assert decision.replicas == 1


@pytest.mark.parametrize("seconds", [-3600.0, -0.1, 3600.0, nan])
def test_jump_of_the_clock_holds_and_lets_the_cooldown_begin_anew(looks: Looks, seconds: float) -> None:
    looks.look(backlog_hits=240_000.0)
    jump = looks.look(seconds=seconds)
    assert explain(jump) == "held at 8: the clock jumped, or the last observation is too old"
    if seconds == seconds:  # nothing follows not-a-number
        assert looks.look(seconds=100.0).replicas == 8
        assert looks.look(seconds=100.0).replicas == 8
        assert looks.look(seconds=100.0).replicas == 1


def test_what_was_wanted_before_a_jump_of_the_clock_is_forgotten_where_nobody_did_it(looks: Looks) -> None:
    looks.look(backlog_hits=240_000.0)
    looks.replicas = 1
    looks.look(seconds=-3600.0)
    decision = looks.look()
    assert (decision.replicas, decision.hold) == (1, None)


def test_look_right_after_another_only_holds(looks: Looks) -> None:
    assert explain(looks.look(arrival=1000.0, seconds=0.1)) == "held at 1: the last observation is too recent"


def test_looks_in_quick_succession_take_measure_all_the_same(looks: Looks) -> None:
    decisions = [looks.look(arrival=1000.0, seconds=0.125) for _ in range(8)]
    assert decisions[-2].rates is None
    assert decisions[-1].rates is not None
    assert decisions[-1].rates.arrival_hits_per_second == pytest.approx(1000.0)


def test_silent_indexers_are_no_reason_to_have_fewer(looks: Looks) -> None:
    looks.look(backlog_hits=210_000.0)
    for _ in range(100):
        decision = looks.look(indexers=None)
    assert explain(decision) == (
        "demand 0.0 + catch-up 0.0 + dead time 0.0 → 0, held at 7: no indexer returned its metrics"
    )


def test_silent_indexers_are_no_reason_not_to_have_more(looks: Looks) -> None:
    looks.replicas = 2
    assert looks.look(backlog_hits=150_000.0, indexers=None).replicas == 5


def test_counters_that_make_no_sense_are_no_answer(looks: Looks) -> None:
    decision = looks.look(indexers={"indexer-0": IndexerCounters(nan, 1.0, 0.0)})
    assert decision.unknown == ("no indexer returned its metrics",)


def test_after_an_hour_without_sight_nobody_goes_at_once(looks: Looks) -> None:
    looks.replicas = 7
    for _ in range(720):
        looks.look(backlog_hits=None, accepted_hits=None)
    looks.look()
    assert looks.look().replicas == 7


def test_bounds_hold_even_without_sight(looks: Looks) -> None:
    looks.replicas = 7
    looks.policy = replace(POLICY, max_replicas=5)
    assert looks.look(backlog_hits=None).replicas == 5


# ── push-back ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_more_indexers_would_only_push_harder(looks: Looks) -> None:
    looks.look(backlog_hits=90_000.0)
    decision = looks.look(arrival=20_000.0, settled=1000.0, busy=5.0, retried=11.0)
    assert (decision.replicas, decision.hold) == (3, Hold.PUSH_BACK)
    assert explain(decision).endswith(", kept to 3 by backpressure of Elasticsearch")


def test_a_document_sent_back_now_and_then_is_not_push_back(looks: Looks) -> None:
    assert looks.look(arrival=20_000.0, settled=1000.0, busy=5.0, retried=9.0).replicas == 20


def test_elasticsearch_that_is_away_pushes_back(looks: Looks) -> None:
    assert looks.look(arrival=20_000.0, settled=0.0, busy=5.0, retried=1.0).hold is Hold.PUSH_BACK


def test_brake_lasts_while_those_who_were_refused_may_be_waiting(looks: Looks) -> None:
    looks.look(arrival=5000.0, settled=100.0, busy=5.0, retried=50.0)
    for _ in range(int(BRAKE_SECONDS / LOOK_SECONDS) - 1):
        assert looks.look(arrival=5000.0, settled=100.0, busy=1.0).hold is Hold.PUSH_BACK
    assert looks.look(arrival=5000.0, settled=100.0, busy=1.0).replicas > 1


def test_push_back_takes_nobody_away_while_nothing_comes_through(looks: Looks) -> None:
    looks.replicas = 9
    for _ in range(100):
        decision = looks.look(settled=0.0, busy=5.0, retried=50.0)
    assert decision.replicas == 9


def test_push_back_that_lasts_leaves_as_many_as_elasticsearch_feeds(looks: Looks) -> None:
    looks.look(backlog_hits=450_000.0)
    for _ in range(int(POLICY.cooldown_seconds / LOOK_SECONDS) - 1):
        assert looks.look(backlog_hits=450_000.0, settled=10_500.0, busy=5.0, retried=5000.0).replicas == 15
    for _ in range(2):
        decision = looks.look(backlog_hits=450_000.0, settled=10_500.0, busy=5.0, retried=5000.0)
    assert explain(decision) == (
        "demand 0.0 + catch-up 15.0 + dead time 0.0 → 15, kept to 3 by backpressure of Elasticsearch"
    )


def test_push_back_takes_nobody_away_without_sight(looks: Looks) -> None:
    looks.look(backlog_hits=450_000.0)
    for _ in range(100):
        decision = looks.look(backlog_hits=None, settled=10_500.0, busy=5.0, retried=5000.0)
    assert (decision.replicas, decision.hold) == (15, Hold.PUSH_BACK)


# ── up at once, down slowly ──────────────────────────────────────────────────────────────────────────────────────────


def test_it_goes_up_at_once(looks: Looks) -> None:
    assert looks.look(backlog_hits=450_000.0).replicas == 15


def test_it_goes_down_to_the_most_that_was_wanted_within_the_cooldown(looks: Looks) -> None:
    looks.look(seconds=5.0, backlog_hits=450_000.0)
    looks.look(seconds=100.0, backlog_hits=240_000.0)
    held = looks.look(seconds=100.0)
    assert explain(held) == (
        "demand 0.0 + catch-up 0.0 + dead time 0.0 → 0, held at 15: so many were wanted within the last 240 s"
    )
    assert held.hold is Hold.COOLDOWN
    assert looks.look(seconds=100.0).replicas == 8
    assert looks.look(seconds=100.0).replicas == 1


def test_load_that_comes_and_goes_faster_than_the_cooldown_moves_nothing(looks: Looks) -> None:
    numbers = [looks.look(arrival=5000.0 if turn % 40 < 20 else 200.0).replicas for turn in range(400)]
    assert set(numbers[100:]) == {8}


def test_a_bound_that_was_lowered_counts_at_once(looks: Looks) -> None:
    looks.look(backlog_hits=450_000.0)
    looks.policy = replace(POLICY, max_replicas=4)
    assert looks.look().replicas == 4


def test_a_bound_that_was_raised_counts_at_once(looks: Looks) -> None:
    looks.policy = replace(POLICY, min_replicas=3)
    decision = looks.look()
    assert decision.replicas == 3
    assert decision.is_change
    assert not looks.look().is_change
