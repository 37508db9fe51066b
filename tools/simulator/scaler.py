"""The scaler: the product's own formula every five seconds, with bounds and a cooldown as the operator has them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from hitcounter import scaling
from hitcounter.ledger import IndexerWork, Ledger, StreamStatus

from tools.simulator.plant import HITS_PER_BUSY_SECOND, Plant

MIN_REPLICAS: Final = 1
MAX_REPLICAS: Final = 30
COOLDOWN_SECONDS: Final = 180
LOOK_SECONDS: Final = 5
POLICY: Final = scaling.Policy(hits_per_busy_second=HITS_PER_BUSY_SECOND)


@dataclass
class Scaler:
    """Chooses the number of pods of one plant: up at once, and down to the most that was wanted within the cooldown."""

    policy: scaling.Policy = POLICY
    memory: scaling.Memory = field(default_factory=scaling.Memory)
    wanted: dict[int, int] = field(default_factory=dict)
    """What was wanted within the cooldown, by the second; while it was unknown, what was there."""

    def look(self, plant: Plant) -> int | None:
        """Return the number to go to; None between two looks."""
        if plant.second % LOOK_SECONDS:
            return None
        sample = scaling.Sample(self._read(plant), float(plant.second))
        recommendation = scaling.recommend(sample, self.memory, self.policy)
        self.memory = recommendation.memory
        since = plant.second - COOLDOWN_SECONDS
        self.wanted = {second: number for second, number in self.wanted.items() if second > since}
        number = recommendation.indexers_wanted
        self.wanted[plant.second] = plant.replicas if number is None else number
        return max(MIN_REPLICAS, min(MAX_REPLICAS, max(self.wanted.values())))

    @staticmethod
    def _read(plant: Plant) -> StreamStatus:
        seen = plant.read(plant.second - plant.load.delay_seconds)
        settled = int(seen.work.settled)
        return StreamStatus(
            Ledger(accepted=max(int(seen.accepted), settled), indexed=settled),
            entries=0,
            oldest_ms=None,
            as_of_ms=None,
            now_ms=plant.second * 1000,
            work=IndexerWork(int(seen.work.busy_seconds * 1000), settled, int(seen.work.retried)),
            indexers=len(plant.ready),
        )
