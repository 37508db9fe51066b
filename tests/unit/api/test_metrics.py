"""What the API tells Prometheus is bounded, whatever its clients send."""

from __future__ import annotations

import asyncio

import orjson
from hitcounter.entries import Durability
from hitcounter.errors import HitcounterError
from hitcounter_api.hot_path import HotPath
from hitcounter_api.intake import Intake, Intakes
from prometheus_client import CollectorRegistry

from tests.unit.api.fakes import NOW_MS, PRODUCER, FakeStream, build_metrics

IDS = 100_000
"""A million take ten times as long and add as little; the rule is that no id ever becomes a label."""


class Client:
    """Somebody who counts the answers."""

    def __init__(self) -> None:
        self.accepted = self.problems = 0

    def answer(self, error: HitcounterError | None) -> None:
        self.accepted += error is None
        self.problems += error is not None


def names_of_series(registry: CollectorRegistry) -> set[tuple[str, str]]:
    return {(sample.name, repr(sample.labels)) for metric in registry.collect() for sample in metric.samples}


async def test_any_number_of_distinct_ids_and_mistakes_adds_no_series() -> None:
    metrics, registry = build_metrics()
    intake = Intake(FakeStream(), metrics, producer=PRODUCER, limit=10 * IDS, budget_seconds=1)
    hot_path = HotPath(Intakes({Durability.MEMORY: intake}, Durability.MEMORY), metrics, lambda: NOW_MS)
    client = Client()

    def send(number: int) -> None:
        hot_path.take([], orjson.dumps({"id": f"/page/{number}"}), client.answer)
        if number % 10 == 0:
            for mistake in (
                {"id": "a", f"field{number}": 1},
                {"id": f"{number}" * 600},
                {"id": "a", "weight": -number},
            ):
                hot_path.take([], orjson.dumps(mistake), client.answer)

    send(0)
    await asyncio.sleep(0.01)
    before = names_of_series(registry)
    for number in range(1, IDS):
        send(number)
        if number % 1000 == 0:
            await asyncio.sleep(0)
    await intake.drain()
    assert (client.accepted, client.problems) == (IDS, 3 * IDS // 10)
    assert names_of_series(registry) == before
