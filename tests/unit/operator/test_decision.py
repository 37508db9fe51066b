"""Bounds, cooldown and holds around the number that the formula wants."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hitcounter.scaling import Memory, Reason, Recommendation, Terms
from hitcounter_operator.decision import Decision, Hold, Limit, Wanted, decide, explain
from hitcounter_operator.resource import ScalingSpec
from hypothesis import given
from hypothesis import strategies as st

SPEC = ScalingSpec(min_replicas=2, max_replicas=10, cooldown_seconds=180)


def recommend(wanted: int | None, *, is_pushed_back: bool = False) -> Recommendation:
    """Return a recommendation of that number, or of none."""
    reason = Reason.PUSH_BACK if is_pushed_back else Reason.UNKNOWN if wanted is None else Reason.FORMULA
    terms = None if wanted is None else Terms(demand=float(wanted), catch_up=0.0, dead_time=0.0)
    return Recommendation(wanted, reason, "Redis does not answer" if wanted is None else "", terms, None, Memory())


@dataclass
class Row:
    """Decisions in a row, five seconds apart, on a Deployment that does what it is told."""

    spec: ScalingSpec = SPEC
    replicas: int = 4
    now_seconds: float = 0.0
    recent: tuple[Wanted, ...] = field(default=())

    def decide(self, wanted: int | None, *, seconds: float = 5.0, is_pushed_back: bool = False) -> Decision:
        self.now_seconds += seconds
        recommendation = recommend(wanted, is_pushed_back=is_pushed_back)
        decision = decide(recommendation, self.replicas, self.now_seconds, self.recent, self.spec)
        self.recent, self.replicas = decision.recent, decision.replicas
        return decision


def test_number_rises_at_once() -> None:
    decision = Row().decide(9)
    assert (decision.replicas, decision.hold, decision.limit, decision.is_change) == (9, None, None, True)


@pytest.mark.parametrize(
    ("wanted", "replicas", "limit"), [(40, 10, Limit.MAX), (10, 10, None), (0, 2, Limit.MIN), (2, 2, None)]
)
def test_number_stays_within_its_bounds_and_the_bound_is_named(wanted: int, replicas: int, limit: Limit | None) -> None:
    decision = Row(replicas=2).decide(wanted)
    assert (decision.replicas, decision.limit) == (replicas, limit)


def test_number_outside_of_new_bounds_is_brought_inside_though_it_is_unknown_what_is_wanted() -> None:
    assert Row(replicas=40).decide(None).replicas == 10
    assert Row(replicas=1).decide(None).replicas == 2


def test_number_falls_to_the_highest_one_that_was_wanted_within_the_cooldown() -> None:
    row = Row()
    row.decide(9)
    row.decide(6, seconds=60.0)
    held = row.decide(3, seconds=60.0)
    assert (held.replicas, held.hold) == (9, Hold.COOLDOWN)
    assert row.decide(3, seconds=60.0).replicas == 6
    assert row.decide(3, seconds=60.0).replicas == 3


def test_short_dip_takes_nobody_away() -> None:
    row = Row()
    row.decide(9)
    for _ in range(10):
        row.decide(3)
        assert row.decide(9).replicas == 9


def test_cooldown_of_zero_follows_at_once() -> None:
    row = Row(spec=SPEC.model_copy(update={"cooldown_seconds": 0}))
    row.decide(9)
    assert row.decide(3).replicas == 3


def test_unknown_holds_the_number_and_counts_as_wanted_for_the_cooldown() -> None:
    row = Row(replicas=7)
    for _ in range(100):
        decision = row.decide(None)
        assert (decision.replicas, decision.hold) == (7, Hold.UNKNOWN)
    assert row.decide(3, seconds=5.0).replicas == 7  # the first one that is known does not take them away
    assert row.decide(3, seconds=200.0).replicas == 3


def test_backpressure_never_raises_the_number() -> None:
    row = Row(replicas=4)
    assert row.decide(8, is_pushed_back=True).replicas == 4
    assert row.decide(None, is_pushed_back=True).replicas == 4
    decision = row.decide(2, is_pushed_back=True, seconds=200.0)
    assert (decision.replicas, decision.hold) == (2, Hold.PUSH_BACK)


def test_what_backpressure_kept_from_being_added_is_not_added_once_it_is_no_longer_wanted() -> None:
    row = Row(replicas=4)
    row.decide(8, is_pushed_back=True)
    assert row.decide(3).replicas == 4


@pytest.mark.parametrize(
    ("row", "wanted", "sentence"),
    [
        (Row(), 5, "demand 5.0 + catch-up 0.0 + dead time 0.0 → 5"),
        (Row(), 12, "demand 12.0 + catch-up 0.0 + dead time 0.0 → 12, limited to 10 by maxReplicas"),
        (Row(), None, "held at 4: Redis does not answer"),
        (
            Row(recent=((0.0, 8),)),
            3,
            "demand 3.0 + catch-up 0.0 + dead time 0.0 → 3, held at 8: so many were wanted within the last 180 s",
        ),
    ],
)
def test_every_decision_is_explained_by_its_terms_and_by_what_changed_them(
    row: Row, wanted: int | None, sentence: str
) -> None:
    assert explain(row.decide(wanted)) == sentence


# ── whatever is wanted ───────────────────────────────────────────────────────────────────────────────────────────────

specs = st.builds(
    lambda least, more, cooldown: ScalingSpec(min_replicas=least, max_replicas=least + more, cooldown_seconds=cooldown),
    least=st.integers(1, 10),
    more=st.integers(0, 40),
    cooldown=st.integers(0, 3600),
)
steps = st.lists(
    st.tuples(st.none() | st.integers(0, 10**6), st.booleans(), st.floats(0.1, 1000.0)), min_size=1, max_size=30
)


@given(specs, st.integers(0, 100), steps)
def test_no_decision_is_outside_of_its_bounds_and_what_is_remembered_stays_small(
    spec: ScalingSpec, replicas: int, steps: list[tuple[int | None, bool, float]]
) -> None:
    row = Row(spec, replicas)
    for wanted, is_pushed_back, seconds in steps:
        decision = row.decide(wanted, is_pushed_back=is_pushed_back, seconds=seconds)
        assert spec.min_replicas <= decision.replicas <= spec.max_replicas
        assert len(decision.recent) <= spec.max_replicas - spec.min_replicas + 1
        assert "\n" not in explain(decision)


@given(specs, st.integers(1, 100), steps)
def test_nobody_goes_while_the_wanted_number_is_unknown(
    spec: ScalingSpec, replicas: int, steps: list[tuple[int | None, bool, float]]
) -> None:
    row = Row(spec, replicas)
    for wanted, is_pushed_back, seconds in steps:
        before = row.replicas
        decision = row.decide(wanted, is_pushed_back=is_pushed_back, seconds=seconds)
        if wanted is None:
            assert decision.replicas == max(spec.min_replicas, min(spec.max_replicas, before))
        if is_pushed_back:
            assert decision.replicas <= max(spec.min_replicas, before)


@given(specs, st.integers(0, 100), steps, st.integers(0, 100), st.integers(0, 100))
def test_more_wanted_never_means_fewer(
    spec: ScalingSpec, replicas: int, steps: list[tuple[int | None, bool, float]], wanted: int, more: int
) -> None:
    row = Row(spec, replicas)
    for number, is_pushed_back, seconds in steps:
        row.decide(number, is_pushed_back=is_pushed_back, seconds=seconds)
    fewer, greater = (
        Row(spec, row.replicas, row.now_seconds, row.recent).decide(number).replicas
        for number in (wanted, wanted + more)
    )
    assert fewer <= greater


@given(specs, st.integers(0, 100), st.integers(0, 100))
def test_constant_wish_moves_the_number_up_or_down_and_then_no_more(
    spec: ScalingSpec, replicas: int, wanted: int
) -> None:
    row = Row(spec, replicas)
    row.decide(wanted)
    row.decide(wanted, seconds=spec.cooldown_seconds + 1.0)
    assert {row.decide(wanted).replicas for _ in range(20)} == {max(spec.min_replicas, min(spec.max_replicas, wanted))}
