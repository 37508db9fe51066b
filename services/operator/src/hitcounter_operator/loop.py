"""The reconcile loop: read the state, decide, act, report. It is level-triggered: it uses the state, not events.

Each turn starts with the lease and the resource, so a changed or deleted resource, or a second operator, is noticed at
the next turn. The watch of kopf only starts that turn earlier. If one part of a turn fails, this is reported in the
status, and the other parts continue.

The check of the indices has its own task: Elasticsearch may take half a minute to respond, and especially then the
queue must be watched.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Final

from hitcounter.errors import TransientError
from hitcounter.health import Readiness
from hitcounter.logs import get_logger

from hitcounter_operator.autoscaler import Autoscaler, Clock
from hitcounter_operator.cluster import Cluster, ClusterUnavailable
from hitcounter_operator.decision import build_policy
from hitcounter_operator.events import Recorder
from hitcounter_operator.index_check import IndexCheck
from hitcounter_operator.lease import Lease
from hitcounter_operator.metrics import OperatorMetrics
from hitcounter_operator.queue_check import QueueCheck
from hitcounter_operator.resource import HitCounter, Spec
from hitcounter_operator.state import IndexState, Observed, Problem
from hitcounter_operator.status import build_status, find_transitions, is_news, read_spec, read_status, write_status

KUBERNETES: Final = "kubernetes"
LEASE: Final = "lease"
"""Names in /readyz."""

_INDEX_WAIT_SECONDS: Final = 1.0
"""How long a turn waits for the check of the indices, which usually takes some milliseconds."""
_STUCK_AFTER_SECONDS: Final = 120.0
"""Longer than all steps of a turn may take together, so that only a hung process is restarted."""

log = get_logger()


@dataclass(frozen=True, slots=True)
class Parts:
    """The objects that the loop uses."""

    cluster: Cluster
    lease: Lease
    recorder: Recorder
    queue: QueueCheck
    index: IndexCheck
    autoscaler: Autoscaler


@dataclass(frozen=True, slots=True)
class Pace:
    """The intervals of the loop."""

    interval_seconds: float
    care_interval_seconds: float


class Loop:
    """The reconcile loop for one HitCounter resource, which may not exist yet.

    Args:
        name: the name of the resource.
        parts: the objects that it uses.
        pace: its intervals.
        retention_days: the number of days that the indexers keep, for the status.
        metrics: the metrics of the operator.
        readiness: reports what it waits for.
        clock: the clocks.
    """

    def __init__(
        self,
        name: str,
        parts: Parts,
        pace: Pace,
        retention_days: int,
        metrics: OperatorMetrics,
        readiness: Readiness,
        clock: Clock,
    ) -> None:
        self.name = name
        self._parts = parts
        self._pace = pace
        self._retention_days = retention_days
        self._metrics = metrics
        self._readiness = readiness
        self._clock = clock
        self._wakes = asyncio.Event()
        self._is_stopping = False
        self._begun_at_seconds = clock.monotonic()
        self._index_task: asyncio.Task[IndexState] | None = None
        self._seen_uid: str | None = None
        self._forget()

    # ── from outside ────────────────────────────────────────────────────────────────────────────────────────────────

    def wake(self) -> None:
        """Start the next turn at once."""
        self._wakes.set()

    def stop(self) -> None:
        """Stop after the current turn."""
        self._is_stopping = True
        self._wakes.set()

    def is_alive(self) -> bool:
        """Return whether a turn started recently, no matter how it ended."""
        return self._clock.monotonic() - self._begun_at_seconds < _STUCK_AFTER_SECONDS

    async def run(self) -> None:
        """Run turns until stopped, then release the lease."""
        while not self._is_stopping:
            self._begun_at_seconds = self._clock.monotonic()
            with self._metrics.turn_seconds.time():
                result = await self._try_turn()
            self._metrics.turns.labels(result).inc()
            rest_seconds = self._pace.interval_seconds - (self._clock.monotonic() - self._begun_at_seconds)
            try:
                await asyncio.wait_for(self._wakes.wait(), max(0.1, rest_seconds))
                self._wakes.clear()
            except TimeoutError:
                pass
        self._forget()
        try:
            await self._parts.lease.release()
        except TransientError as error:
            log.warning("cannot release the lease; the next operator waits until it expires", error=str(error))

    async def _try_turn(self) -> str:
        try:
            is_ours = await self.run_once()
        except TransientError as error:
            if self._readiness.set_problem(KUBERNETES, str(error)):
                log.warning("waiting for Kubernetes", error=str(error))
            return "failed"
        except Exception:
            log.exception("a turn failed")
            return "failed"
        if self._readiness.clear(KUBERNETES):
            log.info("Kubernetes answers")
        return "done" if is_ours else "waited"

    # ── one turn ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def run_once(self) -> bool:
        """Run one turn; False if another operator holds the lease.

        Raises:
            ClusterUnavailable: the API server is down or refuses.
        """
        holder = await self._parts.lease.acquire()
        if holder is not None:
            if self._readiness.set_problem(LEASE, f"{holder} is at work"):
                log.info("another operator holds the lease; waiting", holder=holder)
            self._forget()
            return False
        if self._readiness.clear(LEASE):
            log.info("holding the lease; at work", hitcounter=self.name)
        found = await self._parts.cluster.find_hitcounter(self.name)
        if found is None or self._seen_uid not in (None, found.uid):
            self._forget()
        try:
            if found is not None:
                self._seen_uid = found.uid
                await self._reconcile(found)
        finally:  # report what was done, even if the status could not be written
            await self._parts.recorder.post()
        return True

    def _forget(self) -> None:
        """Forget everything, because the resource is gone or another operator was at work."""
        self._parts.autoscaler.forget()
        self._parts.queue.forget()
        self._metrics.forget()
        if self._index_task is not None:
            self._index_task.cancel()
        self._index_task = None
        self._index: IndexState | None = None
        self._index_problems = 0
        """The number of consecutive checks of the indices that found a problem."""
        self._index_again_at_seconds = float("inf")
        self._seen_uid = None
        self._seen_generation: int | None = None
        self._full_check_at_seconds = self._written_at_seconds = float("-inf")

    async def _reconcile(self, found: HitCounter) -> None:
        spec = read_spec(found.spec)
        if isinstance(spec, Problem):
            self._parts.autoscaler.forget()
            await self._report(found, Observed(found.generation, spec_problem=spec))
        else:
            await self._report(found, await self._check_and_act(found, spec))

    async def _check_and_act(self, found: HitCounter, spec: Spec) -> Observed:
        now, is_changed = self._clock.monotonic(), found.generation != self._seen_generation
        is_full = is_changed or now - self._full_check_at_seconds >= self._pace.care_interval_seconds
        if is_full:
            self._full_check_at_seconds, self._seen_generation = now, found.generation
        queue = await self._parts.queue.run(build_policy(spec.scaling), is_full=is_full)
        self._parts.recorder.record(found, queue.notices, self._clock.now)
        await self._check_indices(found, is_full=is_full)
        state = await self._parts.autoscaler.run(queue, spec)
        self._parts.recorder.record(found, state.notices, self._clock.now)
        return Observed(
            generation=found.generation,
            mode=spec.scaling.mode,
            queue=queue,
            index=self._build_index(spec),
            scaling=state,
            retention_days=self._retention_days,
        )

    def _build_index(self, spec: Spec) -> IndexState | None:
        """Return the state of the indices, with a remark if the spec asks for what the indexers do not do."""
        days = spec.index.retention_days
        if self._index is None or days in (None, self._retention_days):
            return self._index
        remark = f"spec.index.retentionDays is no longer used: the indexers keep {self._retention_days} days."
        return replace(self._index, remark=f"{self._index.remark} {remark}".lstrip())

    async def _check_indices(self, found: HitCounter, *, is_full: bool) -> None:
        """Start a check of the indices if one is due, and use its result when it is ready."""
        if self._index_task is None and (is_full or self._clock.monotonic() >= self._index_again_at_seconds):
            self._index_task = asyncio.create_task(self._parts.index.run(), name="check of the indices")
        if (task := self._index_task) is None:
            return
        await asyncio.wait([task], timeout=_INDEX_WAIT_SECONDS)
        if task.done():
            self._index_task = None
            self._index = task.result()
            self._parts.recorder.record(found, self._index.notices, self._clock.now)
            self._plan_next_check(self._index)

    def _plan_next_check(self, state: IndexState) -> None:
        """After a problem check again soon, and less often the longer it lasts."""
        if state.problem is None:
            self._index_problems, self._index_again_at_seconds = 0, float("inf")
            return
        wait_seconds = 2 ** min(self._index_problems, 10) * self._pace.interval_seconds
        wait_seconds = min(wait_seconds, self._pace.care_interval_seconds)
        self._index_problems += 1
        # Half an interval early: a turn that starts slightly too early must not delay the check by a whole turn.
        self._index_again_at_seconds = self._clock.monotonic() + wait_seconds - self._pace.interval_seconds / 2

    async def _report(self, found: HitCounter, observed: Observed) -> None:
        before = read_status(found.status)
        after = build_status(observed, before, self._clock.now)
        self._metrics.show_status(after)
        if is_news(before, after, self._clock.monotonic() - self._written_at_seconds):
            try:
                await self._parts.cluster.write_status(found.name, write_status(after))
            except ClusterUnavailable as error:
                if error.status != 422:
                    raise
                # The operator works on: an old CRD must not keep it from scaling and from reporting Events.
                log.warning("Kubernetes rejects the status; is the CRD as new as the operator?", error=str(error))
                return
            self._written_at_seconds = self._clock.monotonic()
        self._parts.recorder.record(found, find_transitions(before, after), self._clock.now)
