"""The desired state of a HitCounter resource, and whether a clock can be trusted for deleting data. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hitcounter.indices import CLOCK_TOLERANCE_MS, find_clock_fault
from pydantic import ValidationError

from hitcounter_operator.decide import Policy
from hitcounter_operator.notes import Problem
from hitcounter_operator.objects import Deployment
from hitcounter_operator.resource import Mode, ScalingSpec, Spec

JUMP_HOLD_SECONDS: Final = 3600.0
"""No index is deleted for this long after a clock jumped, so that a person can check it. Retention is not urgent."""


def read_spec(written: Mapping[str, Any]) -> Spec | Problem:
    """Return the spec, or why it is invalid: the CRD of an older or newer version may have accepted it."""
    try:
        spec = Spec.model_validate(written)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        return Problem("SpecInvalid", f"spec.{path}: {first['msg']}")
    if spec.scaling.min_replicas > spec.scaling.max_replicas:
        return Problem("SpecInvalid", "spec.scaling: minReplicas must not be above maxReplicas")
    return spec


def build_policy(scaling: ScalingSpec) -> Policy:
    """Return the policy for `decide`."""
    return Policy(
        min_replicas=scaling.min_replicas,
        max_replicas=scaling.max_replicas,
        target_utilization=scaling.target_utilization,
        drain_target_seconds=scaling.drain_target_seconds,
        cooldown_seconds=scaling.cooldown_seconds,
        start_seconds=scaling.start_seconds,
        hits_per_busy_second=scaling.hits_per_busy_second,
    )


def find_obstacle(mode: Mode, deployment: Deployment | None, name: str, scalers: list[str] | None) -> Problem | None:
    """Return what prevents the operator from scaling; None if nothing does.

    Args:
        mode: the scaling mode.
        deployment: the Deployment of the indexers; None if it does not exist.
        name: its name.
        scalers: the HorizontalPodAutoscalers that scale it; None if they could not be listed.
    """
    if mode is Mode.NONE:
        return Problem("Disabled", "spec.scaling.mode is none.")
    if deployment is None:
        return Problem("DeploymentNotFound", f"There is no Deployment {name} in this namespace.")
    if mode is Mode.OBSERVE:
        return Problem("Observing", "spec.scaling.mode is observe: the operator only reports what it would do.")
    if scalers is None:
        return Problem("ScalersUnknown", "HorizontalPodAutoscalers cannot be listed; one may scale the Deployment.")
    if scalers:
        which = ", ".join(scalers)
        return Problem(
            "ManagedByHPA",
            f"The HorizontalPodAutoscaler {which} also scales the Deployment {name}. Remove it, or set "
            "spec.scaling.mode to observe.",
        )
    if deployment.replicas == 0:
        return Problem(
            "ScaledToZero",
            f"The Deployment {name} was set to 0 replicas; the operator scales again when that is changed.",
        )
    return None


def doubt_own_clock(now_ms: float, others_ms: Mapping[str, float], seconds_since_jump: float | None) -> str | None:
    """Return why the operator's clock must not be used to delete indices; None if it can be used.

    Args:
        now_ms: the time of the operator's clock.
        others_ms: the times of the clocks of other machines, by name.
        seconds_since_jump: seconds since the operator's clock jumped; None if it never did.
    """
    if seconds_since_jump is not None and seconds_since_jump < JUMP_HOLD_SECONDS:
        return f"the operator's clock jumped {seconds_since_jump:.0f} s ago"
    return find_clock_fault("the operator", now_ms, others_ms)


class ClockWatch:
    """Detects that the operator's clock was set, by comparing it with the monotonic clock."""

    def __init__(self) -> None:
        self._offset_seconds: float | None = None
        self._jumped_at_seconds: float | None = None

    def look(self, wall_seconds: float, monotonic_seconds: float) -> float | None:
        """Return the seconds since the last jump; None if there was none."""
        offset = wall_seconds - monotonic_seconds
        if self._offset_seconds is not None and abs(offset - self._offset_seconds) * 1000 > CLOCK_TOLERANCE_MS:
            self._jumped_at_seconds = monotonic_seconds
        self._offset_seconds = offset
        since = self._jumped_at_seconds
        return None if since is None else monotonic_seconds - since
