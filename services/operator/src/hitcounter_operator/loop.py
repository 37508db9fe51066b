"""The one loop: look, decide, act, tell. Each turn goes by what is there, never by what was announced.

A turn begins with the lease and the resource, so whoever changes the resource, deletes it or runs a second operator is
noticed by the next turn at the latest; kopf's watch only makes that turn come sooner. What one part of a turn cannot
see is said in the status and does not keep the others from their work.

The look at the indices has a task of its own: Elasticsearch may take half a minute to answer, and it is exactly then
that the queue must be watched.
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
"""What /readyz says is waited for."""

_INDEX_WAIT_SECONDS: Final = 1.0
"""How long a turn waits for the look at the indices, which as a rule takes some milliseconds."""

_STUCK_AFTER_SECONDS: Final = 120.0
"""Longer than all steps of a turn may take together, so that only a hung loop is killed."""

log = get_logger()


class Namespace(Protocol):
    """What is asked of Kubernetes about the resource."""

    clock_offset_ms: float | None

    async def find_hitcounter(self, name: str) -> HitCounter | None:
        """Return the resource."""

    async def write_status(self, name: str, status: Mapping[str, Any]) -> None:
        """Write its status."""


@dataclass(frozen=True, slots=True)
class Parts:
    """All that the loop works with."""

    namespace: Namespace
    lease: Lease
    teller: Teller
    queue: QueueCare
    index: IndexCare
    scaling: Scaling


@dataclass(frozen=True, slots=True)
class Pace:
    """How often the loop looks."""

    interval_seconds: float
    care_interval_seconds: float
    default_retention_days: int


class Loop:
    """The operator at work for one HitCounter, whether it is there or not.

    Args:
        name: of the HitCounter.
        parts: what it works with.
        pace: how often it looks.
        metrics: what it counts.
        readiness: what it waits for.
        clock: what time it is.
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
        """Looks at the indices, one after the other, that found a problem."""
        self._index_again_at_seconds = float("inf")
        self._cared_at_seconds: float | None = None
        self._written_at_seconds: float | None = None

    # ── from outside ────────────────────────────────────────────────────────────────────────────────────────────────

    def wake(self) -> None:
        """Have the next turn come at once."""
        self._wakes.set()

    def stop(self) -> None:
        """Have the turn under way be the last."""
        self._is_stopping = True
        self._wakes.set()

    def is_alive(self) -> bool:
        """Tell whether a turn began not too long ago, however it ended."""
        return self._clock.monotonic() - self._begun_at_seconds < _STUCK_AFTER_SECONDS

    async def run(self) -> None:
        """Take turns until stopped, then give the lease back."""
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
            log.warning("cannot give the lease back; the next operator waits until it is over", error=str(error))

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
        """Take one turn; False if another operator is at work.

        Raises:
            ClusterUnavailable: the API server is away or refuses.
        """
        holder = await self._parts.lease.hold()
        if holder is not None:
            if self._readiness.set_problem(LEASE, f"{holder} is at work"):
                log.info("another operator is at work; waiting for its lease", holder=holder)
            self._forget()
            return False
        if self._readiness.clear(LEASE):
            log.info("at work", hitcounter=self.name)
        found = await self._parts.namespace.find_hitcounter(self.name)
        if found is None or (self._seen_uid not in (None, found.uid)):
            self._forget()
        try:
            if found is not None:
                self._seen_uid = found.uid
                await self._serve(found)
        finally:  # what was done is told, though the status could not be written
            await self._parts.teller.post()
        return True

    def _forget(self) -> None:
        """Know nothing: of a resource that is gone, or from a time when another operator was at work."""
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
        """Begin a look where one is due, and take in what has come back by now."""
        wall = self._clock.wall()
        clocks_ms = self._find_other_clocks(queue, wall)
        # At each turn, so that no jump between two looks at the indices is missed.
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
        """Look again soon where there was a problem, and less and less often while it lasts."""
        self._index_problems = 0 if look.problem is None else self._index_problems + 1
        if look.problem is None:
            self._index_again_at_seconds = float("inf")
            return
        turns = 2 ** min(self._index_problems - 1, 10)
        wait_seconds = min(turns * self._pace.interval_seconds, self._pace.care_interval_seconds)
        # Half a turn early, so that a turn which comes a moment too soon is not one too late.
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
