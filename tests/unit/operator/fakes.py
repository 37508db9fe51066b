"""Servers that fail on demand, and a clock that goes when it is told to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from hitcounter.elastic import IndicesReport, RetentionReport
from hitcounter.errors import IndexUnavailable, StreamUnavailable
from hitcounter.health import Readiness
from hitcounter.indices import TemplateCheck, TemplateState
from hitcounter.ledger import Ledger, StreamStatus
from hitcounter_operator.cluster import ClusterUnavailable
from hitcounter_operator.index_care import IndexCare
from hitcounter_operator.lease import Lease
from hitcounter_operator.looks import IndexerCounters
from hitcounter_operator.loop import Loop, Pace, Parts
from hitcounter_operator.metrics import create_metrics
from hitcounter_operator.objects import Deployment, LeaseRecord, Pod
from hitcounter_operator.queue_care import QueueCare
from hitcounter_operator.resource import HitCounter
from hitcounter_operator.scaling import Clock, Scaling
from hitcounter_operator.teller import Teller
from prometheus_client import CollectorRegistry

NAME = "count"
STARTED = datetime(2026, 11, 24, 8, tzinfo=UTC)
INTERVAL_SECONDS = 5.0


class FakeTime:
    """A wall clock and a monotonic one, which go together unless the first is set."""

    def __init__(self) -> None:
        self.monotonic = 1000.0
        self.wall = STARTED.timestamp()

    def go(self, seconds: float) -> None:
        self.monotonic += seconds
        self.wall += seconds

    @property
    def clock(self) -> Clock:
        return Clock(wall=lambda: self.wall, monotonic=lambda: self.monotonic)


class FakeLeases:
    """Where the Lease is kept, shared by the operators of a test."""

    def __init__(self) -> None:
        self.record: LeaseRecord | None = None
        self.is_beaten = False
        """True: somebody else is quicker at the next write."""
        self._writes = 0

    async def find_lease(self, name: str) -> LeaseRecord | None:
        return self.record

    async def write_lease(self, name: str, record: LeaseRecord) -> LeaseRecord | None:
        if self.is_beaten:
            return None
        assert record.version == (self.record.version if self.record else "")
        self._writes += 1
        self.record = replace(record, version=str(self._writes), renewed_at=str(self._writes))
        return self.record


class FakeCluster(FakeLeases):
    """A namespace with, or without, a HitCounter and a Deployment."""

    def __init__(self) -> None:
        super().__init__()
        self.clock_offset_ms: float | None = 0.0
        self.spec: dict[str, Any] | None = None
        self.uid = "1"
        self.generation = 1
        self.status: dict[str, Any] = {}
        self.statuses: list[dict[str, Any]] = []
        self.replicas: int | None = 1
        self.ready_replicas = 1
        self.pods: list[Pod] = []
        self.scalers: list[str] = []
        self.scaled: list[int] = []
        self.events: list[Mapping[str, Any]] = []
        self.away: set[str] = set()
        """The calls that fail."""
        self.refusal: int | None = None
        """The status with which they fail; None for no answer."""

    def _answer(self, call: str) -> None:
        if call in self.away or "all" in self.away:
            raise ClusterUnavailable(f"Kubernetes does not answer to {call}", status=self.refusal)

    @property
    def reasons(self) -> list[str]:
        """Reasons of the Events, oldest first."""
        return [event["reason"] for event in self.events]

    @property
    def conditions(self) -> dict[str, str]:
        """Status and reason of each condition."""
        return {one["type"]: f"{one['status']} {one['reason']}" for one in self.status.get("conditions", [])}

    async def find_lease(self, name: str) -> LeaseRecord | None:
        self._answer("lease")
        return await super().find_lease(name)

    async def find_hitcounter(self, name: str) -> HitCounter | None:
        self._answer("hitcounter")
        if self.spec is None:
            return None
        return HitCounter(
            name=name,
            namespace="shop",
            uid=self.uid,
            generation=self.generation,
            spec=self.spec,
            status=self.status,
        )

    async def write_status(self, name: str, status: Mapping[str, Any]) -> None:
        self._answer("status")
        self.status = {key: value for key, value in status.items() if value is not None}
        self.statuses.append(self.status)

    async def post_event(self, event: Mapping[str, Any]) -> None:
        self._answer("event")
        self.events = [one for one in self.events if one["metadata"] != event["metadata"]]
        self.events.append(event)

    async def find_deployment(self, name: str) -> Deployment | None:
        self._answer("deployment")
        return None if self.replicas is None else Deployment(name, self.replicas, self.ready_replicas, "app=indexer")

    async def list_pods(self, selector: str) -> list[Pod]:
        self._answer("pods")
        return self.pods

    async def list_scalers(self, deployment: str) -> list[str]:
        self._answer("scalers")
        return self.scalers

    async def scale(self, deployment: str, *, current: int, wanted: int) -> bool:
        self._answer("scale")
        if current != self.replicas:
            return False
        self.scaled.append(wanted)
        self.replicas = self.ready_replicas = wanted
        return True


class FakeStream:
    """A stream whose ledger the test writes."""

    def __init__(self, time: FakeTime) -> None:
        self.ledger = Ledger()
        self.has_group = True
        self.dead_consumers: list[str] = []
        self.is_away = False
        self.clock_offset_ms = 0.0
        self.pings = 0
        self._time = time

    def _answer(self) -> None:
        if self.is_away:
            raise StreamUnavailable("cannot reach Redis")

    async def ping(self) -> None:
        self.pings += 1
        self._answer()

    async def ensure_group(self) -> bool:
        self._answer()
        was_missing, self.has_group = not self.has_group, True
        return was_missing

    async def status(self) -> StreamStatus:
        self._answer()
        now_ms = int(self._time.wall * 1000 + self.clock_offset_ms)
        return StreamStatus(self.ledger, 0, now_ms - 3000 if self.ledger.backlog else None, None, now_ms)

    async def sweep(self, *, min_idle_ms: int) -> list[str]:
        self._answer()
        removed, self.dead_consumers = self.dead_consumers, []
        return removed


class FakeIndices:
    """Indices whose state the test writes."""

    def __init__(self) -> None:
        self.prefix = "hits"
        self.template = TemplateCheck(TemplateState.SAME, [])
        self.report = IndicesReport(indices=["hits-2026.11.24"], faults={}, repaired={})
        self.expired: list[str] = []
        self.retentions: list[int | None] = []
        self.is_away = False
        self.looks = 0

    def _answer(self) -> None:
        if self.is_away:
            raise IndexUnavailable("cannot reach Elasticsearch")

    async def ensure_template(self) -> TemplateCheck:
        self._answer()
        look, self.template = self.template, TemplateCheck(TemplateState.SAME, [])
        return look

    async def repair(self) -> IndicesReport:
        self.looks += 1
        self._answer()
        return self.report

    async def drop_expired(self, now_ms: int, *, retention_days: int | None = None) -> RetentionReport:
        self._answer()
        self.retentions.append(retention_days)
        dropped, self.expired = self.expired, []
        return RetentionReport(kept=len(self.report.indices), dropped=dropped)


class FakeIndexers:
    """The indexers' counters, as the test writes them."""

    def __init__(self) -> None:
        self.counters: dict[str, IndexerCounters] = {"indexer-0": IndexerCounters(0, 0, 0)}

    async def look(self, pods: Sequence[Pod]) -> Mapping[str, IndexerCounters]:
        return self.counters


@dataclass
class Site:
    """One operator over fakes; `turn` is one turn of its loop, an interval after the one before."""

    time: FakeTime = field(default_factory=FakeTime)
    cluster: FakeCluster = field(default_factory=FakeCluster)
    indices: FakeIndices = field(default_factory=FakeIndices)
    indexers: FakeIndexers = field(default_factory=FakeIndexers)
    readiness: Readiness = field(default_factory=Readiness)
    identity: str = "operator-1"

    def __post_init__(self) -> None:
        self.stream = FakeStream(self.time)
        self.registry = CollectorRegistry()
        metrics = create_metrics(self.registry)
        clock = self.time.clock
        lease = Lease(self.cluster, name="lease", identity=self.identity, seconds=20.0, monotonic=clock.monotonic)
        self.scaling = Scaling(
            NAME, self.cluster, self.indexers, lease, metrics, clock, interval_seconds=INTERVAL_SECONDS
        )
        parts = Parts(
            namespace=self.cluster,
            lease=lease,
            teller=Teller(self.cluster, metrics, identity=self.identity),
            queue=QueueCare(self.stream, self.stream, silence_seconds=600),
            index=IndexCare(self.indices),
            scaling=self.scaling,
        )
        self.loop = Loop(NAME, parts, Pace(INTERVAL_SECONDS, 60.0, 4), metrics, self.readiness, clock)

    def create(self, mode: str = "operator", **scaling: Any) -> None:
        self.cluster.spec = {"indexer": {"deployment": "indexer"}, "scaling": {"mode": mode, **scaling}}

    def change(self, **spec: Any) -> None:
        self.cluster.spec = {**(self.cluster.spec or {}), **spec}
        self.cluster.generation += 1

    async def turn(self, *, seconds: float = INTERVAL_SECONDS) -> bool:
        self.time.go(seconds)
        return await self.loop.run_once()

    async def turns(self, number: int) -> None:
        for _ in range(number):
            await self.turn()

    def arrive(self, hits: int) -> None:
        """Have hits accepted; they stay in the backlog."""
        self.stream.ledger = replace(self.stream.ledger, accepted=self.stream.ledger.accepted + hits)

    def settle(self) -> None:
        """Have the whole backlog indexed."""
        ledger = self.stream.ledger
        self.stream.ledger = replace(ledger, indexed=ledger.indexed + ledger.backlog)
