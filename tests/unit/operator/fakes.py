"""Servers that fail on demand, and a clock that goes when it is told to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, cast

from hitcounter.elastic import IndicesReport
from hitcounter.errors import IndexUnavailable, StreamUnavailable
from hitcounter.health import Readiness
from hitcounter.indices import TemplateCheck, TemplateState
from hitcounter.ledger import IndexerWork, Ledger, StreamStatus
from hitcounter_operator.autoscaler import Autoscaler, Clock
from hitcounter_operator.cluster import Cluster, ClusterUnavailable
from hitcounter_operator.events import Recorder
from hitcounter_operator.index_check import IndexCheck
from hitcounter_operator.lease import Lease
from hitcounter_operator.loop import Loop, Pace, Parts
from hitcounter_operator.metrics import create_metrics
from hitcounter_operator.queue_check import QueueCheck
from hitcounter_operator.resource import HitCounter
from hitcounter_operator.state import Deployment
from kubernetes.aio.client.models.v1_lease import V1Lease
from kubernetes.aio.client.models.v1_object_meta import V1ObjectMeta
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


class FakeCluster(Cluster):
    """A namespace with, or without, a HitCounter and a Deployment, and the Lease of all operators of a test."""

    def __init__(self) -> None:
        super().__init__("shop")
        self.lease: V1Lease | None = None
        self.is_beaten = False
        """True: somebody else is quicker at the next write of the Lease."""
        self._lease_writes = 0
        self.spec: dict[str, Any] | None = None
        self.uid = "1"
        self.generation = 1
        self.status: dict[str, Any] = {}
        self.statuses: list[dict[str, Any]] = []
        self.replicas: int | None = 1
        self.ready_replicas = 1
        self.scalers: list[str] = []
        self.scaled: list[int] = []
        self.events: list[Mapping[str, Any]] = []
        self.away: set[str] = set()
        """The calls that fail."""
        self.refusal: int | None = None
        """The status with which they fail; None for no answer."""
        self.invalid_reasons: set[str] = set()
        """The reasons of the Events that are rejected as invalid."""

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

    @property
    def holder(self) -> str | None:
        """Who holds the Lease."""
        return self.lease.spec.holder_identity if self.lease and self.lease.spec else None

    async def find_lease(self, name: str) -> V1Lease | None:
        self._answer("lease")
        return None if self.lease is None else self.lease.model_copy(deep=True)

    async def write_lease(self, name: str, lease: V1Lease) -> bool:
        self._answer("lease")
        if self.is_beaten:
            return False
        assert lease.metadata is not None
        current = self.lease.metadata if self.lease else None
        assert lease.metadata.resource_version == (current.resource_version if current else None)
        self._lease_writes += 1
        metadata = V1ObjectMeta(name=name, resource_version=str(self._lease_writes))
        self.lease = V1Lease(metadata=metadata, spec=lease.spec).model_copy(deep=True)
        return True

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
        if event["reason"] in self.invalid_reasons:
            raise ClusterUnavailable("Kubernetes answers 422", status=422)
        self.events = [one for one in self.events if one["metadata"] != event["metadata"]]
        self.events.append(event)

    async def find_deployment(self, name: str) -> Deployment | None:
        self._answer("deployment")
        return None if self.replicas is None else Deployment(self.replicas, self.ready_replicas)

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
        self.work = IndexerWork()
        self.has_group = True
        self.is_away = False
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
        now_ms = int(self._time.wall * 1000)
        oldest_ms = now_ms - 3000 if self.ledger.backlog else None
        return StreamStatus(self.ledger, 0, oldest_ms, None, now_ms, work=self.work, indexers=1)


class FakeIndices:
    """Indices whose state the test writes."""

    def __init__(self) -> None:
        self.prefix = "hits"
        self.template = TemplateCheck(TemplateState.SAME, [])
        self.report = IndicesReport(indices=["hits-2026.11.24"], faults={}, repaired={})
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


@dataclass
class Site:
    """One operator over fakes; `turn` is one turn of its loop, an interval after the one before."""

    time: FakeTime = field(default_factory=FakeTime)
    cluster: FakeCluster = field(default_factory=FakeCluster)
    indices: FakeIndices = field(default_factory=FakeIndices)
    readiness: Readiness = field(default_factory=Readiness)
    identity: str = "operator-1"

    def __post_init__(self) -> None:
        self.stream = FakeStream(self.time)
        self.registry = CollectorRegistry()
        metrics = create_metrics(self.registry)
        clock = self.time.clock
        lease = Lease(self.cluster, name="lease", identity=self.identity, seconds=20.0, monotonic=clock.monotonic)
        parts = Parts(
            cluster=self.cluster,
            lease=lease,
            recorder=Recorder(self.cluster, metrics, identity=self.identity),
            queue=QueueCheck(cast("Any", self.stream), cast("Any", self.stream), clock.monotonic),
            index=IndexCheck(cast("Any", self.indices)),
            autoscaler=Autoscaler(NAME, self.cluster, lease, metrics, clock),
        )
        self.loop = Loop(NAME, parts, Pace(INTERVAL_SECONDS, 60.0), 4, metrics, self.readiness, clock)

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
