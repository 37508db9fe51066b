"""The reconcile loop: read the state, decide, act, report. It is level-triggered: it uses the state, not events.

Each turn starts with the lease and the resource, so a changed or deleted resource, or a second operator, is noticed at
the next turn. The watch of kopf only starts that turn earlier. If one part of a turn fails, this is reported in the
status, and the other parts continue.

The check of the indices has its own task: Elasticsearch may take half a minute to respond, and especially then the
queue must be watched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from hitcounter.errors import TransientError
from hitcounter.health import Readiness
from hitcounter.logs import get_logger

from hitcounter_operator.desired import ClockWatch, doubt_own_clock, read_spec
from hitcounter_operator.findings import Findings, IndexLook, QueueLook
from hitcounter_operator.index_care import IndexCare
from hitcounter_operator.lease import Lease
from hitcounter_operator.metrics import OperatorMetrics
from hitcounter_operator.notes import Note, Problem
from hitcounter_operator.queue_care import QueueCare
from hitcounter_operator.resource import HitCounter, Spec, Status
from hitcounter_operator.scaling import Clock, Scaling
from hitcounter_operator.status import build_status, find_turns, is_news, read_status, write_status
from hitcounter_operator.teller import Teller

KUBERNETES: Final = "kubernetes"
LEASE: Final = "lease"
"""Names in /readyz."""

_INDEX_WAIT_SECONDS: Final = 1.0
"""How long a turn waits for the check of the indices, which usually takes some milliseconds."""

_STUCK_AFTER_SECONDS: Final = 120.0
"""Longer than all steps of a turn may take together, so that only a hung process is restarted."""

log = get_logger()


class Namespace(Protocol):
    """What the loop needs from Kubernetes about the resource."""

    clock_offset_ms: float | None

    async def find_hitcounter(self, name: str) -> HitCounter | None:
        """Return the resource."""

    async def write_status(self, name: str, status: Mapping[str, Any]) -> None:
        """Write its status."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The objects that the loop uses."""

    namespace: Namespace
    lease: Lease
    teller: Teller
    queue: QueueCare
    index: IndexCare
    scaling: Scaling


@dataclass(frozen=True, slots=True)
class Pace:
    """The intervals of the loop."""

    interval_seconds: float
    care_interval_seconds: float
    default_retention_days: int


class Loop:
    """The reconcile loop for one HitCounter resource, which may not exist yet.

    Args:
        name: the name of the resource.
        parts: the objects that it uses.
        pace: its intervals.
        metrics: the metrics of the operator.
        readiness: reports what it waits for.
        clock: the clocks.
    """

    def __init__(
        self,
        name: str,
        parts: Parts,
        pace: Pace,
        metrics: OperatorMetrics,
        readiness: Readiness,
        clock: Clock | None = None,
    ) -> None:
        self.name = name
        self._parts = parts
        self._pace = pace
        self._metrics = metrics
        self._readiness = readiness
        self._clock = clock or Clock()
        self._wakes = asyncio.Event()
        self._is_stopping = False
        self._begun_at_seconds = self._clock.monotonic()
        self._clock_watch = ClockWatch()
        self._seen_uid: str | None = None
        self._seen_generation: int | None = None
        self._index: IndexLook | None = None
        self._index_task: asyncio.Task[IndexLook] | None = None
        self._index_problems = 0
        """The number of consecutive checks of the indices that found a problem."""
        self._index_again_at_seconds = float("inf")
        self._cared_at_seconds: float | None = None
        self._written_at_seconds: float | None = None

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
            started_seconds = self._clock.monotonic()
            with self._metrics.turn_seconds.time():
                result = await self._try_turn()
            self._metrics.turns.labels(result).inc()
            rest_seconds = self._pace.interval_seconds - (self._clock.monotonic() - started_seconds)
            await self._rest(max(0.1, rest_seconds))
        self._drop_index_task()
        try:
            await self._parts.lease.release()
        except TransientError as error:
            log.warning("cannot release the lease; the next operator waits until it expires", error=str(error))

    async def _rest(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._wakes.wait(), seconds)
        except TimeoutError:
            return
        self._wakes.clear()

    async def _try_turn(self) -> str:
        self._begun_at_seconds = self._clock.monotonic()
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
        holder = await self._parts.lease.hold()
        if holder is not None:
            if self._readiness.set_problem(LEASE, f"{holder} is at work"):
                log.info("another operator holds the lease; waiting", holder=holder)
            self._forget()
            return False
        if self._readiness.clear(LEASE):
            log.info("holding the lease; at work", hitcounter=self.name)
        found = await self._parts.namespace.find_hitcounter(self.name)
        if found is None or (self._seen_uid not in (None, found.uid)):
            self._forget()
        try:
            if found is not None:
                self._seen_uid = found.uid
                await self._serve(found)
        finally:  # report what was done, even if the status could not be written
            await self._parts.teller.post()
        return True

    def _forget(self) -> None:
        """Forget everything, because the resource is gone or another operator was at work."""
        self._parts.scaling.forget()
        self._drop_index_task()
        self._seen_uid = self._seen_generation = self._index = None
        self._index_problems, self._index_again_at_seconds = 0, float("inf")
        self._cared_at_seconds = self._written_at_seconds = None
        self._metrics.forget()

    def _drop_index_task(self) -> None:
        if self._index_task is not None:
            self._index_task.cancel()
            self._index_task = None

    async def _serve(self, found: HitCounter) -> None:
        spec = read_spec(found.spec)
        if isinstance(spec, Problem):
            self._parts.scaling.forget()
            await self._tell(found, Findings(found.generation, spec_problem=spec))
        else:
            await self._tell(found, await self._look_and_act(found, spec))

    async def _look_and_act(self, found: HitCounter, spec: Spec) -> Findings:
        is_care_due = self._is_care_due(found)
        queue = await self._parts.queue.look(is_care_due=is_care_due)
        self._note(found, queue.notes)
        retention_days = spec.index.retention_days or self._pace.default_retention_days
        await self._look_at_indices(found, queue, retention_days, is_care_due=is_care_due)
        findings = Findings(
            found.generation, spec.scaling.mode, queue=queue, index=self._index, retention_days=retention_days
        )
        scaling = await self._parts.scaling.look_and_act(queue, spec)
        self._note(found, scaling.notes)
        return replace(findings, scaling=scaling)

    def _is_care_due(self, found: HitCounter) -> bool:
        now = self._clock.monotonic()
        is_over = self._cared_at_seconds is None or now - self._cared_at_seconds >= self._pace.care_interval_seconds
        is_due = is_over or found.generation != self._seen_generation
        if is_due:
            self._cared_at_seconds, self._seen_generation = now, found.generation
        return is_due

    # ── the indices ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _look_at_indices(
        self, found: HitCounter, queue: QueueLook, retention_days: int, *, is_care_due: bool
    ) -> None:
        """Start a check of the indices if one is due, and use its result when it is ready."""
        wall = self._clock.wall()
        clocks_ms = self._find_other_clocks(queue, wall)
        # At each turn, so that no jump between two checks of the indices is missed.
        since_jump = self._clock_watch.look(wall, self._clock.monotonic())
        now = self._clock.monotonic()
        if self._index_task is None and (is_care_due or now >= self._index_again_at_seconds):
            look = self._parts.index.look(
                now_ms=int(min([wall * 1000, *clocks_ms.values()])),
                retention_days=retention_days,
                clock_doubt=doubt_own_clock(wall * 1000, clocks_ms, since_jump),
            )
            self._index_task = asyncio.create_task(look, name="look at the indices")
        if (task := self._index_task) is None:
            return
        await asyncio.wait([task], timeout=_INDEX_WAIT_SECONDS)
        if task.done():
            self._index_task = None
            self._index = task.result()
            self._note(found, self._index.notes)
            self._plan_next_look(self._index)

    def _plan_next_look(self, look: IndexLook) -> None:
        """After a problem check again soon, and less often the longer it lasts."""
        self._index_problems = 0 if look.problem is None else self._index_problems + 1
        if look.problem is None:
            self._index_again_at_seconds = float("inf")
            return
        turns = 2 ** min(self._index_problems - 1, 10)
        wait_seconds = min(turns * self._pace.interval_seconds, self._pace.care_interval_seconds)
        # Half an interval early: a turn that starts slightly too early must not delay the check by a whole turn.
        self._index_again_at_seconds = self._clock.monotonic() + wait_seconds - self._pace.interval_seconds / 2

    def _find_other_clocks(self, queue: QueueLook, wall: float) -> dict[str, float]:
        clocks_ms = {}
        if queue.status is not None:
            clocks_ms["Redis"] = float(queue.status.now_ms)
        if (offset_ms := self._parts.namespace.clock_offset_ms) is not None:
            clocks_ms["Kubernetes"] = wall * 1000 + offset_ms
        return clocks_ms

    # ── telling ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _note(self, found: HitCounter, notes: Sequence[Note]) -> None:
        self._parts.teller.note(found, notes, self._clock.now)

    async def _tell(self, found: HitCounter, findings: Findings) -> None:
        before = read_status(found.status)
        after = build_status(findings, before, self._clock.now)
        self._metrics.show_status(after)
        if self._is_worth_writing(before, after):
            await self._parts.namespace.write_status(found.name, write_status(after))
            self._written_at_seconds = self._clock.monotonic()
        self._note(found, find_turns(before, after))

    def _is_worth_writing(self, before: Status, after: Status) -> bool:
        written = self._written_at_seconds
        since_seconds = float("inf") if written is None else self._clock.monotonic() - written
        return is_news(before, after, since_seconds)
