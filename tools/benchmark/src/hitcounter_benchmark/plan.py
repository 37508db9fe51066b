"""The plan of a run: the checked settings, and the schedule that follows. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import islice
from typing import Final

from hitcounter_benchmark.mix import Skew
from hitcounter_benchmark.schedule import (
    PROFILES,
    ClosedLoop,
    OpenLoop,
    Pace,
    intended_times_ns,
)
from hitcounter_benchmark.target import Target

DEFAULT_SECONDS: Final = 10.0
DEFAULT_WORKERS: Final = 1
OPEN_LOOP_WORKERS: Final = 64
"""Visitors do not queue for one connection; and more than this gains nothing on one machine."""
_LONGEST_SECONDS: Final = 600.0
"""The bound of a run that is only given a number of requests, should the server go away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One load and what is measured with it."""

    target: Target
    ids: Sequence[str]
    workers: int = DEFAULT_WORKERS
    skew: Skew = "uniform"
    batch: int | None = None
    """Hits in a request; None sends single hits to /analytics."""
    seconds: float | None = None
    requests: int | None = None
    rate: float | None = None
    """Hits a second of an open loop; None is a closed loop."""
    profile: str = "steady"
    max_backlog: int | None = None
    """Hits: above this many in the queue nothing is sent. It turns a closed loop into the whole path's own rate."""
    read_id: str | None = None
    """The id that is read beside the load; None reads the first that takes hits."""
    read_rate: float = 0.0
    """Reads of it a second; 0 reads nothing."""
    timeout_seconds: float = 5.0
    settle_seconds: float = 60.0
    probe_every_seconds: float = 0.25
    """Between two freshness probes; 0 sends none."""
    is_verified: bool = True
    seed: int = 1

    @property
    def is_watched(self) -> bool:
        """Whether the backlog is looked at during the load, and waited for after it."""
        return self.is_verified or self.max_backlog is not None

    @property
    def planned_seconds(self) -> float:
        """How long the load may last at most, answers still awaited at the end aside."""
        if self.seconds is not None:
            return self.seconds
        return _LONGEST_SECONDS if self.requests is not None else DEFAULT_SECONDS

    def build_pace(self) -> Pace:
        """Build the pace of this run."""
        if self.rate is None:
            return ClosedLoop(seconds=self.planned_seconds, requests=self.requests)
        profile = PROFILES[self.profile](self.rate / (self.batch or 1), self.planned_seconds)
        intended_ns = islice(intended_times_ns(profile), self.requests)
        return OpenLoop(intended_ns, give_up_seconds=self.planned_seconds + self.timeout_seconds)

    def describe(self) -> str:
        """Return the plan as one line for people."""
        pace = "closed loop" if self.rate is None else f"open loop, {self.rate:,.0f} hits/s ({self.profile})"
        ids = f"id {self.ids[0]!r}" if len(self.ids) == 1 else f"{len(self.ids):,} ids ({self.skew})"
        batch = f", batches of {self.batch:,}" if self.batch else ""
        connections = "1 connection" if self.workers == 1 else f"{self.workers:,} connections"
        return f"{pace}, {connections}, {ids}{batch}, to {self.target.url}"

    def as_settings(self) -> dict[str, object]:
        """Return the plan as settings for the record."""
        settings = {field.name: getattr(self, field.name) for field in fields(self)}
        named = {"target": self.target.url, "id": self.ids[0], "ids": len(self.ids), "seconds": self.planned_seconds}
        return {**settings, **named}
