"""Decides on the number of indexers: the number wanted by hitcounter.scaling, with bounds, cooldown and holds. Pure.

The number rises at once. It falls only to the highest number wanted within the cooldown. It does not change while the
wanted number is unknown, and does not rise while Elasticsearch applies backpressure. docs/autoscaling.md explains why.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hitcounter.scaling import Policy, Reason, Recommendation
from hitcounter.scaling import explain as explain_wanted

from hitcounter_operator.resource import ScalingSpec


class Hold(StrEnum):
    """Why the number differs from the wanted one."""

    UNKNOWN = "MetricsUnknown"
    """The wanted number is unknown: nothing changes."""
    PUSH_BACK = "SinkThrottled"
    """Elasticsearch applies backpressure: the number does not rise."""
    COOLDOWN = "Cooldown"
    """More indexers were wanted recently: the number does not fall yet."""


class Limit(StrEnum):
    """The bound that the wanted number exceeds."""

    MIN = "minReplicas"
    MAX = "maxReplicas"


Wanted = tuple[float, int]
"""A time on a monotonic clock, and the number of indexers wanted then, within the bounds."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The number of indexers, and everything that explains it."""

    replicas: int
    current_replicas: int
    """The number that the Deployment requests now."""
    spec: ScalingSpec
    recommendation: Recommendation
    hold: Hold | None
    limit: Limit | None
    recent: tuple[Wanted, ...]
    """For the next decision: those within the cooldown that no later one equals or exceeds, the oldest first."""

    @property
    def is_change(self) -> bool:
        """True if the Deployment must be scaled."""
        return self.replicas != self.current_replicas


def build_policy(spec: ScalingSpec) -> Policy:
    """Return the settings of the formula."""
    return Policy(
        target_utilization=spec.target_utilization,
        drain_target_seconds=spec.drain_target_seconds,
        start_seconds=spec.start_seconds,
        hits_per_busy_second=spec.hits_per_busy_second,
    )


def decide(
    recommendation: Recommendation, current: int, at_seconds: float, recent: tuple[Wanted, ...], spec: ScalingSpec
) -> Decision:
    """Decide on the number of indexers.

    Args:
        recommendation: the number wanted by the formula.
        current: the number that the Deployment requests.
        at_seconds: the time on a monotonic clock.
        recent: what the previous decision returned as `recent`; empty at first.
        spec: bounds and cooldown.
    """
    wanted, hold = _clamp(current, spec), None
    if recommendation.reason is Reason.PUSH_BACK:
        hold = Hold.PUSH_BACK
        if recommendation.indexers_wanted is not None:
            wanted = min(wanted, _clamp(recommendation.indexers_wanted, spec))
    elif recommendation.indexers_wanted is None:
        hold = Hold.UNKNOWN
    else:
        wanted = _clamp(recommendation.indexers_wanted, spec)
    since = at_seconds - spec.cooldown_seconds
    kept = (one for one in recent if one[0] > since and one[1] > wanted)
    recent = (*kept, (at_seconds, wanted))
    highest = _clamp(recent[0][1], spec)
    replicas = highest if hold is None else min(_clamp(current, spec), highest)
    if hold is None and replicas > wanted:
        hold = Hold.COOLDOWN
    return Decision(replicas, current, spec, recommendation, hold, _find_limit(recommendation, replicas, spec), recent)


def explain(decision: Decision) -> str:
    """Return the decision as one line, such as `demand 3.2 + catch-up 4.1 + dead time 0.4 → 8, limited to 6 by …`."""
    recommendation = decision.recommendation
    if recommendation.indexers_wanted is None:
        return f"held at {decision.replicas}: {recommendation.unknown}"
    sentence = explain_wanted(recommendation)
    if decision.hold is Hold.COOLDOWN:
        cooldown = f"{decision.spec.cooldown_seconds} s"
        return f"{sentence}, held at {decision.replicas}: so many were wanted within the last {cooldown}"
    if decision.hold is Hold.PUSH_BACK and decision.replicas != recommendation.indexers_wanted:
        return f"{sentence}, held at {decision.replicas}"
    if decision.limit is not None and decision.hold is None:
        return f"{sentence}, limited to {decision.replicas} by {decision.limit}"
    return sentence


def _clamp(replicas: int, spec: ScalingSpec) -> int:
    return max(spec.min_replicas, min(replicas, spec.max_replicas))


def _find_limit(recommendation: Recommendation, replicas: int, spec: ScalingSpec) -> Limit | None:
    terms = recommendation.terms
    if terms and terms.wanted > replicas == spec.max_replicas:
        return Limit.MAX
    if terms and terms.wanted < replicas == spec.min_replicas:
        return Limit.MIN
    return None
