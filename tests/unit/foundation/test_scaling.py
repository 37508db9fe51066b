"""How many indexers are wanted: the formula, what is learnt, what is unknown, backpressure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hitcounter.ledger import IndexerWork, Ledger, StreamStatus
from hitcounter.scaling import BRAKE_SECONDS, Memory, Policy, Reason, Recommendation, Sample, Terms, explain, recommend

POLICY = Policy(hits_per_busy_second=1000.0)


@dataclass
class Installation:
    """An installation that is observed every five seconds."""

    policy: Policy = POLICY
    status: StreamStatus = field(
        default_factory=lambda: StreamStatus(
            Ledger(), entries=0, oldest_ms=None, as_of_ms=None, now_ms=1_764_000_000_000, indexers=1
        )
    )
    seen_seconds: float = 100.0
    memory: Memory = field(default_factory=Memory)

    def observe(
        self,
        *,
        arrival: float | None = None,
        settled: float = 0.0,
        busy: float = 0.0,
        pushed_back: int = 0,
        seconds: float = 5.0,
    ) -> Recommendation:
        """Let some seconds pass, and recommend. The arrival is as much as is settled unless it is given.

        Arrival, settled and busy are by second.
        """
        arrival = settled if arrival is None else arrival
        ledger, work = self.status.ledger, self.status.work
        self.status = replace(
            self.status,
            now_ms=self.status.now_ms + round(seconds * 1000),
            ledger=replace(
                ledger,
                accepted=ledger.accepted + round(arrival * seconds),
                indexed=ledger.indexed + round(settled * seconds),
            ),
            work=IndexerWork(
                work.busy_ms + round(busy * seconds * 1000),
                work.hits + round(settled * seconds),
                work.pushed_back + pushed_back,
            ),
        )
        self.seen_seconds += seconds
        return self.recommend()

    def recommend(self) -> Recommendation:
        recommendation = recommend(Sample(self.status, self.seen_seconds), self.memory, self.policy)
        self.memory = recommendation.memory
        return recommendation

    def miss(self) -> Recommendation:
        """Observe that Redis does not answer."""
        recommendation = recommend(None, self.memory, self.policy)
        self.memory = recommendation.memory
        self.seen_seconds += 5.0
        return recommendation

    def wait(self, hits: int) -> None:
        """Let hits wait that were accepted long ago."""
        ledger = self.status.ledger
        self.status = replace(self.status, ledger=replace(ledger, accepted=ledger.accepted + hits))


@pytest.fixture
def installation() -> Installation:
    """An installation without load that was observed once."""
    started = Installation()
    started.recommend()
    return started


def waiting(hits: int, policy: Policy = POLICY) -> Installation:
    started = Installation(policy)
    started.wait(hits)
    started.recommend()
    return started


def learnt_rate(recommendation: Recommendation) -> float:
    assert recommendation.rates is not None
    return recommendation.rates.hits_per_busy_second


# ── the formula ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_worked_example_of_the_documentation_comes_to_its_terms() -> None:
    installation = waiting(810_000, Policy())
    recommendation = installation.observe(arrival=28_000, settled=10_000, busy=1.0)
    assert explain(recommendation) == "demand 4.0 + catch-up 3.0 + dead time 1.2 → 9"
    assert recommendation.indexers_wanted == 9
    assert recommendation.reason is Reason.FORMULA


def test_sum_that_floating_point_puts_above_a_whole_number_is_not_rounded_up() -> None:
    assert Terms(demand=0.1, catch_up=2.7, dead_time=0.2).wanted == 3


def test_no_indexer_is_wanted_if_nothing_arrives_and_nothing_waits(installation: Installation) -> None:
    assert installation.observe().indexers_wanted == 0


def test_one_hit_that_waits_wants_an_indexer() -> None:
    assert waiting(1).observe().indexers_wanted == 1


def test_one_hit_that_waits_wants_an_indexer_however_fast_and_patient_they_are() -> None:
    policy = Policy(drain_target_seconds=3600.0, hits_per_busy_second=1_000_000.0)
    assert waiting(1, policy).observe().indexers_wanted == 1


def test_indexers_that_keep_up_leave_no_dead_time(installation: Installation) -> None:
    recommendation = installation.observe(arrival=3000, settled=3000, busy=3.0)
    assert recommendation.terms is not None
    assert recommendation.terms.dead_time == 0.0


def test_number_rises_while_hits_arrive_and_no_indexer_is_alive(installation: Installation) -> None:
    installation.status = replace(installation.status, indexers=0)
    numbers = [installation.observe(arrival=700).indexers_wanted for _ in range(20)]
    assert numbers == sorted(numbers, key=lambda number: number or 0)
    assert numbers[0] == 2
    assert numbers[-1] == 4


def test_replayed_dead_letters_are_backlog_and_not_arrival(installation: Installation) -> None:
    installation.observe(arrival=6000, settled=6000, busy=5.0)
    installation.status = replace(
        installation.status, ledger=replace(installation.status.ledger, indexed=0, dead=30_000, replayed=0)
    )
    installation.memory = Memory()
    installation.recommend()
    installation.status = replace(
        installation.status, ledger=replace(installation.status.ledger, dead=0, replayed=30_000)
    )
    assert explain(installation.observe()) == "demand 0.0 + catch-up 1.0 + dead time 0.0 → 1"


def test_rate_is_measured_over_some_seconds_by_whoever_looks_each_second(installation: Installation) -> None:
    for _ in range(10):
        installation.observe(arrival=1000, settled=1000, busy=1.0, seconds=1.0)
    recommendation = installation.observe(arrival=5000, settled=1000, busy=1.0, seconds=1.0)
    assert recommendation.rates is not None
    assert recommendation.rates.arrival_hits_per_second == 2000.0


# ── what is learnt ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_rate_of_an_indexer_is_learnt_from_its_busy_time(installation: Installation) -> None:
    assert learnt_rate(installation.observe(settled=1600, busy=0.8)) == 2000.0


def test_rate_stays_known_while_there_is_nothing_to_do(installation: Installation) -> None:
    installation.observe(settled=1600, busy=0.8)
    for _ in range(1000):
        assert learnt_rate(installation.observe()) == 2000.0


def test_indexers_with_little_to_do_do_not_count_as_slow(installation: Installation) -> None:
    installation.status = replace(installation.status, indexers=3)
    installation.observe(settled=4800, busy=2.4)
    assert learnt_rate(installation.observe(settled=100, busy=1.4)) == 2000.0
    assert learnt_rate(installation.observe(settled=100, busy=1.6)) < 2000.0


def test_little_work_of_an_unknown_number_of_indexers_does_not_make_them_slow(installation: Installation) -> None:
    """They have stopped, or the user in Redis may not look at the group."""
    installation.observe(settled=1600, busy=0.8)
    installation.status = replace(installation.status, indexers=0)
    assert learnt_rate(installation.observe(settled=100, busy=0.3)) == 2000.0


def test_an_indexer_that_is_faster_than_expected_is_believed_at_once(installation: Installation) -> None:
    assert learnt_rate(installation.observe(settled=1000, busy=0.2)) == 5000.0


def test_a_few_milliseconds_of_work_teach_no_rate(installation: Installation) -> None:
    assert learnt_rate(installation.observe(settled=1000, busy=0.08)) == POLICY.hits_per_busy_second


def test_rate_is_not_learnt_from_single_bulks(installation: Installation) -> None:
    """One second shows the work of a bulk, and the next one its hits."""
    installation.status = replace(installation.status, indexers=3)
    for second in range(20):
        recommendation = installation.observe(settled=2000 if second % 2 else 0, busy=1.0, seconds=1.0)
    assert learnt_rate(recommendation) == POLICY.hits_per_busy_second


def test_a_lasting_change_of_rate_is_followed_within_minutes_of_work(installation: Installation) -> None:
    for _ in range(60):
        installation.observe(settled=10_000, busy=1.0)
    for _ in range(60):
        recommendation = installation.observe(settled=2000, busy=1.0)
    assert 2000.0 <= learnt_rate(recommendation) < 2500.0


def test_rate_is_not_learnt_from_work_that_elasticsearch_sent_back(installation: Installation) -> None:
    installation.observe(settled=1600, busy=0.8)
    assert learnt_rate(installation.observe(settled=20, busy=1.0, pushed_back=50)) == 2000.0


def test_a_process_that_starts_takes_the_rate_from_the_life_of_the_ledger(installation: Installation) -> None:
    installation.status = replace(installation.status, work=IndexerWork(busy_ms=100_000, hits=300_000))
    installation.memory = Memory()
    installation.recommend()
    assert learnt_rate(installation.observe()) == 3000.0


def test_ledger_that_has_seen_little_work_or_none_leaves_the_default(installation: Installation) -> None:
    for work in (IndexerWork(), IndexerWork(busy_ms=59_999, hits=1_000_000), IndexerWork(busy_ms=60_000)):
        installation.status = replace(installation.status, work=work)
        installation.memory = Memory()
        installation.recommend()
        assert learnt_rate(installation.observe()) == POLICY.hits_per_busy_second


def test_hits_of_an_indexer_that_books_no_busy_time_do_not_raise_the_rate(installation: Installation) -> None:
    """An older version beside newer ones, or before them, settles hits and books no work."""
    ledger = installation.status.ledger
    installation.wait(10**9)
    installation.status = replace(
        installation.status, ledger=replace(ledger, accepted=ledger.accepted + 10**9, indexed=10**9)
    )
    recommendation = installation.observe(settled=1600, busy=0.8)
    assert learnt_rate(recommendation) == 2000.0
    assert recommendation.rates is not None
    assert recommendation.rates.settled_hits_per_second > 10**8


# ── what is unknown ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_first_observation_is_only_a_baseline() -> None:
    assert explain(Installation().recommend()) == "held: this is the first observation"


def test_number_is_unknown_while_redis_does_not_answer(installation: Installation) -> None:
    recommendation = installation.miss()
    assert (recommendation.indexers_wanted, recommendation.reason) == (None, Reason.UNKNOWN)
    assert explain(recommendation) == "held: Redis does not answer"


def test_arrival_is_not_averaged_over_an_outage_of_redis(installation: Installation) -> None:
    for _ in range(3):
        installation.observe(arrival=3000, settled=3000, busy=3.0)
    for _ in range(6):
        installation.miss()
    installation.status = replace(installation.status, now_ms=installation.status.now_ms + 30_000)
    assert installation.recommend().indexers_wanted is None
    recommendation = installation.observe(arrival=3000, settled=3000, busy=3.0)
    assert recommendation.rates is not None
    assert recommendation.rates.arrival_hits_per_second == 3000.0


def test_ledger_that_went_back_is_not_read_as_no_load(installation: Installation) -> None:
    before = installation.status
    installation.observe(arrival=3000, settled=3000, busy=3.0)
    installation.status = replace(before, now_ms=installation.status.now_ms)
    assert explain(installation.observe()) == "held: the ledger went back"
    recommendation = installation.observe(arrival=3000, settled=3000, busy=3.0)
    assert recommendation.indexers_wanted == 5


@pytest.mark.parametrize("work", [IndexerWork(1, 2, 3), IndexerWork(2, 1, 3), IndexerWork(2, 2, 2)])
def test_counters_of_the_work_that_went_back_are_unknown(installation: Installation, work: IndexerWork) -> None:
    installation.status = replace(installation.status, work=IndexerWork(2, 2, 3))
    installation.memory = Memory()
    installation.recommend()
    installation.status = replace(installation.status, work=work)
    assert explain(installation.observe()) == "held: the ledger went back"


@pytest.mark.parametrize("jump_seconds", [-3600.0, -5.5, 1.5, 30.0, 3600.0])
def test_jump_of_the_clock_of_redis_makes_one_observation_unknown(
    installation: Installation, jump_seconds: float
) -> None:
    installation.observe(arrival=3000, settled=3000, busy=3.0)
    installation.status = replace(installation.status, now_ms=installation.status.now_ms + round(jump_seconds * 1000))
    recommendation = installation.observe(arrival=3000, settled=3000, busy=3.0)
    assert explain(recommendation) == "held: the clock jumped, or the last observation is too old"
    assert installation.observe(arrival=3000, settled=3000, busy=3.0).indexers_wanted == 5


def test_observation_after_minutes_of_silence_is_a_new_baseline(installation: Installation) -> None:
    assert installation.observe(arrival=1000, seconds=121.0).indexers_wanted is None
    assert installation.observe(arrival=1000, seconds=119.0).indexers_wanted is not None


def test_ledger_with_more_settled_than_accepted_is_unknown(installation: Installation) -> None:
    assert explain(installation.observe(arrival=0, settled=10, busy=0.1)) == "held: the backlog is unknown"


def test_observations_in_quick_succession_measure_all_the_same(installation: Installation) -> None:
    recommendations = [installation.observe(arrival=1000, seconds=0.125) for _ in range(100)]
    assert [one.indexers_wanted is None for one in recommendations[:5]] == [True] * 3 + [False] * 2
    assert recommendations[-1].rates is not None
    assert recommendations[-1].rates.arrival_hits_per_second == pytest.approx(1000.0)
    assert len(installation.memory.samples) < 10


# ── backpressure ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_more_are_recommended_than_elasticsearch_keeps_up_with() -> None:
    installation = waiting(300_000)
    recommendation = installation.observe(arrival=20_000, settled=1400, busy=3.0, pushed_back=71)
    assert (recommendation.indexers_wanted, recommendation.reason) == (2, Reason.PUSH_BACK)
    assert explain(recommendation).endswith(", kept to 2 by backpressure of Elasticsearch")


def test_a_document_sent_back_now_and_then_is_no_backpressure() -> None:
    recommendation = waiting(300_000).observe(arrival=20_000, settled=1400, busy=3.0, pushed_back=70)
    assert recommendation.reason is Reason.FORMULA


def test_backpressure_changes_nothing_if_fewer_are_wanted_anyway() -> None:
    recommendation = waiting(30_000).observe(arrival=0, settled=3000, busy=3.0, pushed_back=1000)
    assert (recommendation.indexers_wanted, recommendation.reason) == (1, Reason.FORMULA)


def test_backpressure_without_anything_to_do_wants_no_indexer(installation: Installation) -> None:
    recommendation = installation.observe(pushed_back=1000)
    assert (recommendation.indexers_wanted, recommendation.reason) == (0, Reason.FORMULA)


def test_number_is_held_while_indexers_work_and_nothing_is_settled() -> None:
    """They try again every few seconds, and book documents sent back only once if they get no answers."""
    installation = waiting(1)
    assert installation.observe(arrival=1000, busy=0.01).indexers_wanted is None
    recommendation = installation.observe(arrival=1000)
    assert (recommendation.indexers_wanted, recommendation.reason) == (None, Reason.PUSH_BACK)


def test_number_is_known_again_when_nobody_has_worked_for_a_while() -> None:
    installation = waiting(1)
    installation.observe(arrival=1000, busy=1.0)
    wanted = [installation.observe(arrival=1000).indexers_wanted for _ in range(7)]
    assert wanted[4] is None
    assert wanted[6] is not None


def test_busy_time_that_is_booked_after_its_hits_is_no_stall(installation: Installation) -> None:
    installation.observe(busy=0.01)
    assert installation.observe(arrival=1).indexers_wanted == 1


def test_number_is_held_while_elasticsearch_accepts_nothing(installation: Installation) -> None:
    recommendation = installation.observe(arrival=1000, busy=1.0, pushed_back=5000)
    assert (recommendation.indexers_wanted, recommendation.reason) == (None, Reason.PUSH_BACK)
    assert explain(recommendation) == (
        "demand 1.4 + catch-up 0.2 + dead time 0.7 → 3, held: Elasticsearch accepts nothing"
    )


def test_backpressure_lasts_while_those_who_were_refused_may_be_waiting() -> None:
    installation = waiting(300_000)
    installation.observe(settled=700, busy=1.0, pushed_back=1000)
    for _ in range(int(BRAKE_SECONDS / 5.0) - 1):
        assert installation.observe(settled=700, busy=1.0).reason is Reason.PUSH_BACK
    assert installation.observe(settled=700, busy=1.0).reason is Reason.FORMULA
