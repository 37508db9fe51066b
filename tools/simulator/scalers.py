"""The scalers: when each one reads which numbers, and how many indexers it wants.

The operator uses its own code. All others use a HorizontalPodAutoscaler, as KEDA does, and differ in the metric.
Metrics from Prometheus are as old as its last scrape; the others are read when they are used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil
from typing import Final, Protocol

from hitcounter.ledger import IndexerWork, Ledger, StreamStatus
from hitcounter.scaling import Memory, Sample, recommend
from hitcounter_operator.decision import Wanted, build_policy, decide
from hitcounter_operator.resource import ScalingSpec

from tools.simulator.hpa import KUBERNETES, SYNC_SECONDS, Behavior, HorizontalPodAutoscaler, Rule, is_tolerable
from tools.simulator.loads import QUIET
from tools.simulator.plant import ENTRIES_PER_SECOND, HITS_PER_BUSY_SECOND, Plant

MIN_REPLICAS: Final = 1
MAX_REPLICAS: Final = 30
POLICY: Final = ScalingSpec(
    min_replicas=MIN_REPLICAS, max_replicas=MAX_REPLICAS, hits_per_busy_second=int(HITS_PER_BUSY_SECOND)
)
LOOK_SECONDS: Final = 5
SCRAPE_SECONDS: Final = 15
SCRAPE_PHASE_SECONDS: Final = 7
"""A scrape and a look of the autoscaler do not fall together."""
CHART: Final = Behavior([Rule(15, percent=900), Rule(15, pods=20)], [Rule(60, percent=50)], 240)
"""The chart's `autoscaling.behavior`."""


class Scaler(Protocol):
    """Chooses the number of pods of one plant."""

    def look(self, plant: Plant) -> int | None:
        """Return the number to go to; None where it is not the moment to look, or nothing can be said."""
        ...


@dataclass
class Operator:
    """The operator: every five seconds, from the ledger."""

    policy: ScalingSpec = POLICY
    memory: Memory = field(default_factory=Memory)
    recent: tuple[Wanted, ...] = ()

    def look(self, plant: Plant) -> int | None:
        """Decide as the operator does."""
        if plant.second % LOOK_SECONDS:
            return None
        seen = plant.read(plant.second - plant.load.delay_seconds)
        accepted, backlog, work = round(seen.accepted), round(seen.backlog), seen.work
        status = StreamStatus(
            ledger=Ledger(accepted=accepted, indexed=accepted - backlog),
            entries=round(seen.entries),
            oldest_ms=None,
            as_of_ms=None,
            now_ms=plant.second * 1000,
            work=IndexerWork(round(work.busy_seconds * 1000), round(work.settled), round(work.retried)),
            indexers=len(seen.pods),
        )
        recommendation = recommend(Sample(status, float(plant.second)), self.memory, build_policy(self.policy))
        decision = decide(recommendation, plant.replicas, float(plant.second), self.recent, self.policy)
        self.memory, self.recent = recommendation.memory, decision.recent
        return decision.replicas


@dataclass
class Autoscaled:
    """A HorizontalPodAutoscaler, and what it looks at: a number of pods with a fraction, None for no answer."""

    measure: Callable[[Plant], float | None]
    behavior: Behavior = CHART

    def __post_init__(self) -> None:
        self._autoscaler = HorizontalPodAutoscaler(self.behavior, MIN_REPLICAS, MAX_REPLICAS)

    def look(self, plant: Plant) -> int | None:
        """Decide as Kubernetes does."""
        if plant.second % SYNC_SECONDS:
            return None
        measured = self.measure(plant)
        if measured is None:
            return None
        wanted = plant.replicas if is_tolerable(measured / plant.replicas) else ceil(measured)
        return self._autoscaler.scale(plant.second, plant.replicas, wanted)


# ── what is looked at ────────────────────────────────────────────────────────────────────────────────────────────────


def measure_formula(plant: Plant) -> float | None:
    """The chart's query: the formula with all of its terms, computed by Prometheus, and its brake."""
    newest = _scrape(plant)
    now = plant.read(newest)
    of_a_minute = now.work.minus(plant.read(newest - 45).work)
    of_minutes = now.work.minus(plant.read(newest - 285).work)
    if of_a_minute.retried > 0.01 * of_a_minute.settled:
        return float(plant.replicas)
    rate = of_minutes.settled / of_minutes.busy_seconds if of_minutes.settled else HITS_PER_BUSY_SECOND
    arrival = _rate_of_arrival(plant)
    drain, start = POLICY.drain_target_seconds, POLICY.start_seconds
    return (arrival * (1 / POLICY.target_utilization + start / drain) + now.backlog / drain) / rate


def measure_backlog(drain_seconds: float) -> Callable[[Plant], float]:
    """The backlog in hits, read at once, for a target of so many seconds' work a pod: `keda.source: status`."""

    def measure(plant: Plant) -> float:
        seen = plant.read(plant.second - plant.load.delay_seconds)
        return seen.backlog / (HITS_PER_BUSY_SECOND * drain_seconds)

    return measure


def measure_stream_length(plant: Plant) -> float:
    """The entries of the stream, read at once: for a target of as much work a pod, as entries are in quiet times."""
    seen = plant.read(plant.second - plant.load.delay_seconds)
    hits_of_an_entry = max(1.0, QUIET / ENTRIES_PER_SECOND)
    return seen.entries * hits_of_an_entry / (HITS_PER_BUSY_SECOND * POLICY.drain_target_seconds)


def measure_arrival(plant: Plant) -> float:
    """The arrival rate alone, from Prometheus."""
    return _rate_of_arrival(plant) / (POLICY.target_utilization * HITS_PER_BUSY_SECOND)


def measure_utilization(plant: Plant) -> float:
    """The share of time that the pods were busy, averaged over the last 15 seconds, like CPU utilization."""
    at = plant.second - plant.load.delay_seconds
    now, before = plant.read(at), plant.read(at - 15)
    busy = now.work.minus(before.work).busy_seconds / 15
    return busy / POLICY.target_utilization


def _scrape(plant: Plant) -> int:
    """Return the second of the newest scrape."""
    since = (plant.second - SCRAPE_PHASE_SECONDS) % SCRAPE_SECONDS
    return plant.second - since - plant.load.delay_seconds


def _rate_of_arrival(plant: Plant) -> float:
    """Return what `rate(…[1m])` tells: over the four scrapes of the last minute."""
    newest = _scrape(plant)
    seconds = min(45, max(newest, 1))
    return (plant.read(newest).accepted - plant.read(newest - seconds).accepted) / seconds


SCALERS: Final[dict[str, Callable[[], Scaler]]] = {
    "operator": Operator,
    "KEDA, the formula": lambda: Autoscaled(measure_formula),
    "KEDA, backlog (30 s)": lambda: Autoscaled(measure_backlog(30.0)),
    "backlog (5 s)": lambda: Autoscaled(measure_backlog(5.0)),
    "arrival rate": lambda: Autoscaled(measure_arrival),
    "busy share (70 %)": lambda: Autoscaled(measure_utilization),
    "KEDA, stream length": lambda: Autoscaled(measure_stream_length, KUBERNETES),
}
"""Each makes a new scaler, by the name it has in tables."""


SETTINGS: Final[dict[str, ScalingSpec]] = {
    "the defaults": POLICY,
    "drain target 10 s": POLICY.model_copy(update={"drain_target_seconds": 10.0}),
    "drain target 120 s": POLICY.model_copy(update={"drain_target_seconds": 120.0}),
    "target utilization 0.5": POLICY.model_copy(update={"target_utilization": 0.5}),
    "target utilization 0.9": POLICY.model_copy(update={"target_utilization": 0.9}),
    "6 indexers at least": POLICY.model_copy(update={"min_replicas": 6}),
    "15 indexers at most": POLICY.model_copy(update={"max_replicas": 15}),
    "cooldown 30 s": POLICY.model_copy(update={"cooldown_seconds": 30.0}),
    "cooldown 600 s": POLICY.model_copy(update={"cooldown_seconds": 600.0}),
}
"""The operator with one setting turned, by what that is."""
