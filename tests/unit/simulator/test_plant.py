"""The simulated installation loses nothing, serves in order, and lets pods take their time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle

import pytest

from tools.simulator.loads import LOADS, Load
from tools.simulator.plant import HITS_PER_BUSY_SECOND, START_SECONDS, Plant


def run(plant: Plant, replicas: Iterator[int] | None = None) -> None:
    """Let all of the load happen."""
    for _ in range(plant.load.seconds):
        if replicas is not None:
            plant.scale_to(next(replicas))
        plant.step()


def constant(hits: float, **more: object) -> Load:
    return Load("constant", "", 600, lambda _: hits, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("load", LOADS, ids=lambda load: load.name)
def test_every_hit_is_settled_or_in_the_backlog(load: Load) -> None:
    plant = Plant(load)
    run(plant, cycle(range(1, 31)))
    assert all(abs(sample.accepted - sample.work.settled - sample.backlog) < 1.0 for sample in plant.history)
    plant.finish()
    assert sum(plant.waits.values()) == pytest.approx(plant.history[-1].accepted)


def test_one_indexer_with_half_its_work_lets_nobody_wait() -> None:
    plant = Plant(constant(HITS_PER_BUSY_SECOND / 2))
    run(plant)
    assert set(plant.waits) == {0}


def test_waits_grow_by_what_is_missing() -> None:
    """Of twice what one indexer can do, the last hits of ten minutes wait five."""
    plant = Plant(constant(2 * HITS_PER_BUSY_SECOND))
    run(plant)
    assert max(plant.waits) == pytest.approx(300, abs=10)


def test_pods_are_ready_some_time_after_they_were_asked_for() -> None:
    plant = Plant(constant(0.0))
    plant.scale_to(10)
    ready = []
    for _ in range(60):
        plant.step()
        ready.append(len(plant.ready))
    assert ready[START_SECONDS[0] - 2] == 1
    assert ready[START_SECONDS[1] - 1] == 10


def test_of_too_many_pods_the_youngest_go() -> None:
    plant = Plant(constant(0.0))
    plant.scale_to(5)
    plant.scale_to(2)
    assert [pod.name for pod in plant.pods] == ["indexer-0", "indexer-1"]


def test_elasticsearch_at_its_ceiling_sends_back_what_is_beyond_or_is_only_slow() -> None:
    for is_refusing in (True, False):
        plant = Plant(constant(9000.0, ceiling=lambda _: 4000.0, is_refusing=is_refusing))
        run(plant)
        last = plant.history[-1]
        assert last.work.settled == pytest.approx(600 * 4000.0)
        assert last.work.busy_seconds == pytest.approx(600.0)
        assert (last.work.retried > 0) is is_refusing
