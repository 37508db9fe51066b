"""Reads the indexers, decides how many there should be, and scales the Deployment in mode `operator`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

from hitcounter.errors import TransientError
from hitcounter.logs import get_logger

from hitcounter_operator.decide import Decision, Memory, decide, explain
from hitcounter_operator.desired import build_policy, find_obstacle
from hitcounter_operator.findings import QueueLook, ScalingLook
from hitcounter_operator.indexers import StartWatch
from hitcounter_operator.lease import Lease
from hitcounter_operator.looks import SHORTEST_INTERVAL_SECONDS, IndexerCounters, Observation
from hitcounter_operator.metrics import OperatorMetrics
from hitcounter_operator.notes import Note, Problem, Reason
from hitcounter_operator.objects import Deployment, Pod
from hitcounter_operator.resource import Mode, Spec

log = get_logger()


class Scaled(Protocol):
    """What the operator needs from Kubernetes about the indexers."""

    async def find_deployment(self, name: str) -> Deployment | None:
        """Return the Deployment of the indexers."""

    async def list_pods(self, selector: str) -> list[Pod]:
        """Return the indexers."""

    async def list_scalers(self, deployment: str) -> list[str]:
        """Return the other autoscalers of the Deployment."""

    async def scale(self, deployment: str, *, current: int, wanted: int) -> bool:
        """Scale it; False if it was changed meanwhile."""


class Counted(Protocol):
    """The counters of the indexers."""

    async def look(self, pods: Sequence[Pod]) -> Mapping[str, IndexerCounters]:
        """Return the counters by pod."""


@dataclass(frozen=True, slots=True)
class Clock:
    """The clocks of the operator."""

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic

    @property
    def now(self) -> datetime:
        """The current time, to the second, which is the resolution of times in Kubernetes."""
        return datetime.fromtimestamp(int(self.wall()), UTC)


@dataclass(frozen=True, slots=True)
class ScaleAnswer:
    """The response of /v1/scale."""

    desired_replicas: int
    replicas: int
    mode: Mode
    decision: str
    decided_at_seconds: float
    """On the monotonic clock. An old answer is not used."""


class Scaling:
    """Decides and scales for one HitCounter resource.

    Args:
        name: the name of the resource.
        scaled: access to the Deployment and its pods.
        indexers: access to the counters of the pods.
        lease: checked again before each change.
        metrics: exports each decision.
        clock: the clocks.
        interval_seconds: the time between two observations.
    """

    def __init__(
        self,
        name: str,
        scaled: Scaled,
        indexers: Counted,
        lease: Lease,
        metrics: OperatorMetrics,
        clock: Clock,
        *,
        interval_seconds: float,
    ) -> None:
        self._name = name
        self._scaled = scaled
        self._indexers = indexers
        self._lease = lease
        self._metrics = metrics
        self._clock = clock
        self._answer_seconds = 4 * interval_seconds
        self.forget()

    def forget(self) -> None:
        """Forget everything measured so far."""
        self._memory = Memory()
        self._starts = StartWatch()
        self._decision: Decision | None = None
        self._answer: ScaleAnswer | None = None
        self._told_replicas: int | None = None

    def answer(self, name: str) -> ScaleAnswer | None:
        """Return the last decision for the resource of that name; None if there is none or it is too old."""
        answer = self._answer
        if answer is None or name != self._name:
            return None
        return answer if self._clock.monotonic() - answer.decided_at_seconds <= self._answer_seconds else None

    async def look_and_act(self, queue: QueueLook, spec: Spec) -> ScalingLook:
        """Read the indexers, decide, and scale if the mode is `operator`.

        If a call to Kubernetes fails, this is reported as an obstacle, and the rest of the turn continues.
        """
        name, mode = spec.indexer.deployment, spec.scaling.mode
        if mode is Mode.NONE:
            self.forget()
            return ScalingLook(obstacle=find_obstacle(mode, None, name, None))
        try:
            return await self._try(queue, spec, name, mode)
        except TransientError as error:
            log.warning("cannot read the state of the indexers", error=str(error))
            return ScalingLook(
                obstacle=Problem("IndexersUnknown", f"The state of the indexers cannot be read: {error}.")
            )

    async def _try(self, queue: QueueLook, spec: Spec, name: str, mode: Mode) -> ScalingLook:
        deployment = await self._scaled.find_deployment(name)
        obstacle = find_obstacle(mode, deployment, name, await self._find_scalers(name))
        look = ScalingLook(deployment=deployment, obstacle=obstacle)
        if deployment is None or (mode is Mode.OPERATOR and deployment.replicas == 0):
            self.forget()
            return look
        if self._looked_a_moment_ago():
            return replace(look, decision=self._decision)
        decision = self._decision = await self._decide(queue, deployment, spec)
        if decision is None:
            return look
        self._show(decision, mode)
        look = replace(look, decision=decision)
        return await self._act(look, decision, name) if obstacle is None else self._say(look, decision, mode)

    def _looked_a_moment_ago(self) -> bool:
        """Return whether the last observation is too recent for a rate, as when a change has just started a turn."""
        before = self._memory.baseline
        return before is not None and self._clock.monotonic() - before.at_seconds < SHORTEST_INTERVAL_SECONDS

    async def _find_scalers(self, name: str) -> list[str] | None:
        try:
            return await self._scaled.list_scalers(name)
        except TransientError as error:
            log.warning("cannot list HorizontalPodAutoscalers", error=str(error))
            return None

    async def _decide(self, queue: QueueLook, deployment: Deployment, spec: Spec) -> Decision | None:
        """Decide; None at the first observation, which has nothing to compare with."""
        pods = await self._scaled.list_pods(deployment.selector)
        ledger = queue.status.ledger if queue.status else None
        observation = Observation(
            at_seconds=self._clock.monotonic(),
            replicas=deployment.replicas,
            ready_replicas=deployment.ready_replicas,
            accepted_hits=ledger.accepted if ledger else None,
            backlog_hits=ledger.backlog if ledger else None,
            indexers=await self._indexers.look(pods),
            pod_start_seconds=self._starts.look(pods),
        )
        is_first = self._memory.baseline is None
        decision = decide(observation, self._memory, build_policy(spec.scaling))
        self._memory = decision.memory
        return None if is_first else decision

    def _show(self, decision: Decision, mode: Mode) -> None:
        self._metrics.show_decision(self._name, decision)
        self._answer = ScaleAnswer(
            desired_replicas=decision.replicas,
            replicas=decision.current_replicas,
            mode=mode,
            decision=explain(decision),
            decided_at_seconds=self._clock.monotonic(),
        )

    def _say(self, look: ScalingLook, decision: Decision, mode: Mode) -> ScalingLook:
        """Report once what would be done."""
        if not decision.is_change:
            self._told_replicas = None
        if mode is not Mode.OBSERVE or decision.replicas in (self._told_replicas, decision.current_replicas):
            return look
        self._told_replicas = decision.replicas
        sentence = _describe(decision)
        return replace(look, told=sentence, notes=(Note(Reason.WOULD_SCALE, f"Would scale {sentence}."),))

    async def _act(self, look: ScalingLook, decision: Decision, name: str) -> ScalingLook:
        if not decision.is_change or not self._lease.is_held:
            return look
        sentence = _describe(decision)
        try:
            is_done = await self._scaled.scale(name, current=decision.current_replicas, wanted=decision.replicas)
        except TransientError as error:
            log.warning("could not scale", decision=sentence, error=str(error))
            # Without the decision, because its numbers change: the condition is reported once, not at each attempt.
            return replace(look, obstacle=Problem("ScaleFailed", f"The Deployment {name} cannot be scaled: {error}."))
        if not is_done:
            log.info("the Deployment was changed meanwhile; trying again", wanted=decision.replicas)
            return look
        note = Note(Reason.SCALED, f"Scaled {sentence}.")
        return replace(look, told=sentence, scaled_at=self._clock.now, notes=(note,))


def _describe(decision: Decision) -> str:
    return f"{decision.current_replicas} → {decision.replicas}: {explain(decision)}"
