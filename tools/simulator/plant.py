"""The simulated installation: a queue, pods that take time to start, a limited Elasticsearch. A step is one second.

Hits are a fluid, served in the order of their arrival, in equal shares by all ready pods. A pod that is removed stops
at once and loses nothing, like an indexer. What can be read of it is what the ledger has.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tools.simulator.loads import Load

HITS_PER_BUSY_SECOND: Final = 10_000.0
START_SECONDS: Final = (15, 25)
"""The quickest and the slowest start of a pod."""
OVERHEAD_SHARE: Final = 0.05
"""Busy share of an indexer with next to nothing to do: small bulks cost time, too."""


@dataclass(frozen=True, slots=True)
class Pod:
    """One indexer."""

    name: str
    created_at: int
    ready_at: int


class Work(NamedTuple):
    """What all indexers did, as the ledger has it."""

    settled: float = 0.0
    busy_seconds: float = 0.0
    retried: float = 0.0

    def plus(self, other: Work) -> Work:
        """Return the sum of this and another one."""
        return Work(self.settled + other.settled, self.busy_seconds + other.busy_seconds, self.retried + other.retried)


NOTHING: Final = Work()


@dataclass(frozen=True, slots=True)
class Sample:
    """All that could be read at the end of a second."""

    pods: tuple[Pod, ...]
    accepted: float = 0.0
    """Over all time, like all work."""
    backlog: float = 0.0
    work: Work = NOTHING
    """Of all indexers."""


@dataclass(slots=True)
class Cohort:
    """What arrived in one second and still waits."""

    second: int
    hits: float


@dataclass
class Plant:
    """The installation at one second of a load, with all that happened before."""

    load: Load
    second: int = 0
    pods: list[Pod] = field(default_factory=list)
    history: list[Sample] = field(default_factory=list)
    waits: dict[int, float] = field(default_factory=dict)
    """Hits by the seconds they had to wait."""

    def __post_init__(self) -> None:
        self._arrivals = self.load.draw_arrivals()
        self._starts = random.Random(f"{self.load.name}: starts")  # noqa: S311 - it shapes a load, and guards nothing
        self._queue: deque[Cohort] = deque()
        self.pods.append(Pod("indexer-0", -60, -60))
        self._created = 1
        self.history.append(Sample(tuple(self.pods)))

    @property
    def replicas(self) -> int:
        """Pods asked for."""
        return len(self.pods)

    @property
    def ready(self) -> Sequence[Pod]:
        """Pods at work."""
        return [pod for pod in self.pods if pod.ready_at <= self.second]

    def scale_to(self, replicas: int) -> None:
        """Ask for that many pods: new ones begin to start, and of too many the youngest go."""
        while len(self.pods) < replicas:
            ready_at = self.second + self._starts.randint(*START_SECONDS)
            self.pods.append(Pod(f"indexer-{self._created}", self.second, ready_at))
            self._created += 1
        del self.pods[replicas:]

    def read(self, second: int) -> Sample:
        """Return what could be read at a second, or at the first one."""
        return self.history[max(0, min(second, len(self.history) - 1))]

    def step(self) -> None:
        """Let a second pass."""
        before, ready = self.history[-1], len(self.ready)
        arrived = self._arrivals[self.second]
        if arrived:
            self._queue.append(Cohort(self.second, arrived))
        able = min(before.backlog + arrived, ready * HITS_PER_BUSY_SECOND)
        taken = min(able, self.load.ceiling(self.second))
        self._serve(taken)
        work = self._work(able, taken, ready)
        self.second += 1
        self.history.append(
            Sample(
                pods=tuple(self.pods),
                accepted=before.accepted + arrived,
                backlog=max(0.0, before.backlog + arrived - taken),
                work=before.work.plus(work),
            )
        )

    def finish(self) -> None:
        """Count those who still wait as if they were served now."""
        self._serve(sum(cohort.hits for cohort in self._queue))

    def _work(self, able: float, taken: float, ready: int) -> Work:
        """Return what the ready indexers did, of what they were able to do."""
        if not able:
            return NOTHING
        used = able / (ready * HITS_PER_BUSY_SECOND)
        busy = 1.0 if taken < able else OVERHEAD_SHARE + (1 - OVERHEAD_SHARE) * used
        return Work(taken, busy * ready, able - taken if self.load.is_refusing else 0.0)

    def _serve(self, hits: float) -> None:
        """Take hits from the front of the queue, and note how long they waited."""
        while self._queue and hits > 1e-6:
            first = self._queue[0]
            taken = min(first.hits, hits)
            wait = self.second - first.second
            self.waits[wait] = self.waits.get(wait, 0.0) + taken
            hits -= taken
            first.hits -= taken
            if first.hits <= 1e-6:
                self._queue.popleft()
