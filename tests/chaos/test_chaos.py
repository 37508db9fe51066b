"""The short run: every kind of fault in a minute and a half. `make chaos` makes longer and harder ones."""

from __future__ import annotations

import random
import sys

import pytest

from tests.chaos.run import Plan, run
from tests.chaos.schedule import Kind


def _find_seed(plan_seconds: float, gap_seconds: float) -> int:
    """Draw seeds until one has every kind of fault in the time: always the same one, new ones are for `make chaos`."""
    seeds = random.Random(2026)
    while True:
        seed = seeds.randrange(1_000_000)
        faults = Plan(seed, plan_seconds, 1.0, gap_seconds).build_schedule()
        if {fault.kind for fault in faults} == set(Kind):
            return seed


@pytest.mark.timeout(1200)  # of which a good run takes about two and a half minutes
def test_nothing_acknowledged_is_lost_and_nothing_counted_twice_whatever_happens() -> None:
    plan = Plan(_find_seed(90.0, 2.4), duration_seconds=90.0, rate=400.0, gap_seconds=2.4)
    report = run(plan, sys.stdout.write)
    again = f"--seed {plan.seed} --duration {plan.duration_seconds:g} --rate {plan.rate:g} --gap {plan.gap_seconds:g}"
    assert report.is_good, f"{report.render()}\nagain: python -m tests.chaos {again}"
