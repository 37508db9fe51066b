"""Scales the Deployment of the indexers in mode `operator`, and reports each decision."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from hitcounter.errors import TransientError
from hitcounter.logs import get_logger

from hitcounter_operator.cluster import Cluster
from hitcounter_operator.decision import Decision, Wanted, decide, explain
from hitcounter_operator.lease import Lease
from hitcounter_operator.metrics import OperatorMetrics
from hitcounter_operator.resource import Mode, Spec
from hitcounter_operator.state import Deployment, Notice, Problem, QueueState, Reason, ScalingState

log = get_logger()


@dataclass(frozen=True, slots=True)
class Clock:
    """The clocks of the operator."""

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic

    @property
    def now(self) -> datetime:
        """The current time, to the second, which is the resolution of times in Kubernetes."""
        return datetime.fromtimestamp(int(self.wall()), UTC)


class Autoscaler:
    """Decides and scales for one HitCounter resource.

    Args:
        name: the name of the resource.
        cluster: access to the Deployment.
        lease: checked again before each change.
        metrics: exports each decision.
        clock: the clocks.
    """

    def __init__(self, name: str, cluster: Cluster, lease: Lease, metrics: OperatorMetrics, clock: Clock) -> None:
        self._name = name
        self._cluster = cluster
        self._lease = lease
        self._metrics = metrics
        self._clock = clock
        self.forget()

    def forget(self) -> None:
        """Forget everything decided so far."""
        self._recent: tuple[Wanted, ...] = ()
        self._reported_replicas: int | None = None

    async def run(self, queue: QueueState, spec: Spec) -> ScalingState:
        """Decide, and scale if the mode is `operator`.

        If a call to Kubernetes fails, this is reported as an obstacle, and the rest of the turn continues.
        """
        name, mode = spec.indexer.deployment, spec.scaling.mode
        if mode is Mode.NONE:
            self.forget()
            return ScalingState(obstacle=Problem("Disabled", "spec.scaling.mode is none."))
        try:
            return await self._try(queue, spec, name)
        except TransientError as error:
            log.warning("cannot read the state of the indexers", error=str(error))
            text = f"The state of the indexers cannot be read: {error}."
            return ScalingState(obstacle=Problem("IndexersUnknown", text))

    async def _try(self, queue: QueueState, spec: Spec, name: str) -> ScalingState:
        mode = spec.scaling.mode
        deployment = await self._cluster.find_deployment(name)
        scalers = await self._find_scalers(name) if mode is Mode.OPERATOR else []
        state = ScalingState(deployment=deployment, obstacle=find_obstacle(mode, deployment, name, scalers))
        if deployment is None or (mode is Mode.OPERATOR and deployment.replicas == 0):
            self.forget()
            return state
        now = self._clock.monotonic()
        decision = decide(queue.recommendation, deployment.replicas, now, self._recent, spec.scaling)
        self._recent = decision.recent
        if queue.is_first:
            return state
        self._metrics.show_decision(self._name, decision)
        state = replace(state, decision=decision)
        return await self._act(state, decision, name) if state.obstacle is None else self._tell(state, decision, mode)

    async def _find_scalers(self, name: str) -> list[str] | None:
        try:
            return await self._cluster.list_scalers(name)
        except TransientError as error:
            log.warning("cannot list HorizontalPodAutoscalers", error=str(error))
            return None

    def _tell(self, state: ScalingState, decision: Decision, mode: Mode) -> ScalingState:
        """Report once what would be done."""
        if not decision.is_change:
            self._reported_replicas = None
        if mode is not Mode.OBSERVE or decision.replicas in (self._reported_replicas, decision.current_replicas):
            return state
        self._reported_replicas = decision.replicas
        sentence = _describe(decision)
        return replace(state, change=sentence, notices=(Notice(Reason.WOULD_SCALE, f"Would scale {sentence}."),))

    async def _act(self, state: ScalingState, decision: Decision, name: str) -> ScalingState:
        if not decision.is_change or not self._lease.is_held:
            return state
        sentence = _describe(decision)
        try:
            is_done = await self._cluster.scale(name, current=decision.current_replicas, wanted=decision.replicas)
        except TransientError as error:
            log.warning("could not scale", decision=sentence, error=str(error))
            # Without the decision, because its numbers change: the condition is reported once, not at each attempt.
            return replace(state, obstacle=Problem("ScaleFailed", f"The Deployment {name} cannot be scaled: {error}."))
        if not is_done:
            log.info("the Deployment was changed meanwhile; trying again", wanted=decision.replicas)
            return state
        notice = Notice(Reason.SCALED, f"Scaled {sentence}.")
        return replace(state, change=sentence, scaled_at=self._clock.now, notices=(notice,))


def find_obstacle(mode: Mode, deployment: Deployment | None, name: str, scalers: list[str] | None) -> Problem | None:
    """Return what prevents the operator from scaling; None if nothing does.

    Args:
        mode: the scaling mode, not `none`.
        deployment: the Deployment of the indexers; None if it does not exist.
        name: its name.
        scalers: the HorizontalPodAutoscalers that scale it; None if they could not be listed.
    """
    if deployment is None:
        return Problem("DeploymentNotFound", f"There is no Deployment {name} in this namespace.")
    if mode is Mode.OBSERVE:
        return Problem("Observing", "spec.scaling.mode is observe: the operator only reports what it would do.")
    if scalers is None:
        return Problem("ScalersUnknown", "HorizontalPodAutoscalers cannot be listed; one may scale the Deployment.")
    if scalers:
        text = f"The HorizontalPodAutoscaler {', '.join(scalers)} also scales the Deployment {name}. Remove it, or set "
        return Problem("ManagedByHPA", f"{text}spec.scaling.mode to observe.")
    if deployment.replicas == 0:
        text = f"The Deployment {name} was set to 0 replicas; the operator scales again when that is changed."
        return Problem("ScaledToZero", text)
    return None


def _describe(decision: Decision) -> str:
    return f"{decision.current_replicas} → {decision.replicas}: {explain(decision)}"
