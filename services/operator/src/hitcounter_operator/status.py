"""Builds the status of the resource from what a turn observed, and decides when to write it. Pure.

Each write goes to etcd and wakes all watchers. So a status is written at once if its meaning changes, but only every
few seconds if only numbers change.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from pydantic import ValidationError

from hitcounter_operator.decision import Decision, Hold, Limit
from hitcounter_operator.resource import Condition, ConditionType, Mode, Spec, Status, Truth
from hitcounter_operator.state import Notice, Observed, Problem, Reason

MOVED_SHARE: Final = 0.05
"""The relative change from which on a number is written."""
MOVED_SECONDS: Final = 10.0
"""Minimum time between two writes if only numbers changed."""
_MOVING: Final = ("backlog", "arrival_per_second", "settled_per_second", "hits_per_busy_second")
_BAD_WHEN_TRUE: Final = (ConditionType.SINK_THROTTLED, ConditionType.SCALING_LIMITED)

_Verdict = tuple[Truth, str, str]
"""The new status, reason and message of a condition."""


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


def read_status(written: Mapping[str, Any]) -> Status:
    """Return the status in the resource; an empty one if another version wrote it and it cannot be parsed."""
    try:
        return Status.model_validate(written)
    except ValidationError:
        return Status()


# ── conditions ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _judge(seen: Observed) -> dict[ConditionType, _Verdict]:
    if (problem := seen.spec_problem) is not None:
        return {ConditionType.READY: (Truth.FALSE, problem.reason, problem.message)}
    verdicts = {
        ConditionType.QUEUE_READY: _judge_queue(seen),
        ConditionType.INDEX_READY: _judge_index(seen),
        ConditionType.AUTOSCALING_ACTIVE: _judge_scaling(seen),
        ConditionType.SCALING_LIMITED: _judge_limit(seen.scaling.decision),
        ConditionType.SINK_THROTTLED: _judge_sink(seen.scaling.decision),
    }
    return {ConditionType.READY: _judge_all(verdicts, seen.mode), **verdicts}


def _judge_queue(seen: Observed) -> _Verdict:
    if seen.queue is None:
        return Truth.UNKNOWN, "NotLookedYet", "The queue has not been checked yet."
    if (problem := seen.queue.problem) is not None:
        return Truth.FALSE, problem.reason, problem.message
    return Truth.TRUE, "QueueWell", "Redis accepts hits, and the consumer group exists."


def _judge_index(seen: Observed) -> _Verdict:
    if seen.index is None:
        return Truth.UNKNOWN, "NotLookedYet", "The first check of the indices has not finished yet."
    if (problem := seen.index.problem) is not None:
        return Truth.FALSE, problem.reason, problem.message
    return Truth.TRUE, "IndexWell", f"Hits can be written to all indices. {seen.index.remark}".rstrip()


def _judge_scaling(seen: Observed) -> _Verdict:
    if (obstacle := seen.scaling.obstacle) is not None:
        return Truth.FALSE, obstacle.reason, obstacle.message
    decision = seen.scaling.decision
    if decision is None:
        return Truth.UNKNOWN, "FirstLook", "A rate needs two observations; this was the first."
    if decision.hold is Hold.UNKNOWN:
        text = f"The number of indexers does not change: {decision.recommendation.unknown}."
        return Truth.FALSE, "MetricsUnknown", text
    return Truth.TRUE, "Scaling", "The operator scales the Deployment by its formula."


def _judge_limit(decision: Decision | None) -> _Verdict:
    if decision is None or decision.recommendation.terms is None:
        return Truth.UNKNOWN, "NotDecided", "Nothing was decided."
    least, most = decision.spec.min_replicas, decision.spec.max_replicas
    if decision.limit is Limit.MAX:
        return Truth.TRUE, "TooFewAllowed", f"More indexers are needed than maxReplicas ({most}) allows."
    if decision.limit is Limit.MIN:
        return Truth.FALSE, "AtMinimum", f"Fewer indexers than minReplicas ({least}) would be enough."
    return Truth.FALSE, "WithinBounds", f"The wanted number of indexers is within {least} to {most}."


def _judge_sink(decision: Decision | None) -> _Verdict:
    if decision is None:
        return Truth.UNKNOWN, "NotDecided", "Nothing was decided."
    if decision.hold is Hold.PUSH_BACK:
        text = "Elasticsearch applies backpressure: more indexers would only add load, so none is added."
        return Truth.TRUE, "ElasticsearchPushesBack", text
    return Truth.FALSE, "NoPushBack", "Backpressure of Elasticsearch does not limit the number of indexers."


def _judge_all(verdicts: Mapping[ConditionType, _Verdict], mode: Mode) -> _Verdict:
    """Return whether queue and indices are ready and, in mode `operator`, whether the operator can scale."""
    needed = [ConditionType.QUEUE_READY, ConditionType.INDEX_READY]
    if mode is Mode.OPERATOR:
        needed.append(ConditionType.AUTOSCALING_ACTIVE)
    for truth in (Truth.FALSE, Truth.UNKNOWN):
        for verdict in (verdicts[kind] for kind in needed):
            if verdict[0] is truth:
                return verdict
    return Truth.TRUE, "AllWell", "Queue and indices are ready, and the spec is valid."


def _build_conditions(seen: Observed, before: Status, now: datetime) -> list[Condition]:
    since = {(condition.type, condition.status): condition.last_transition_time for condition in before.conditions}
    return [
        Condition(
            type=kind,
            status=truth,
            observed_generation=seen.generation,
            last_transition_time=since.get((kind, truth), now),
            reason=reason,
            message=message,
        )
        for kind, (truth, reason, message) in _judge(seen).items()
    ]


def find_transitions(before: Status, after: Status) -> list[Notice]:
    """Return a notice for each condition whose status or reason changed; Ready follows from the others."""
    old = {condition.type: condition for condition in before.conditions}
    return [
        Notice(Reason.CONDITION_CHANGED, one.message, is_warning=_is_bad(one), event_reason=one.reason)
        for one in after.conditions
        if _is_reported(old.get(one.type), one)
    ]


def _is_reported(before: Condition | None, after: Condition) -> bool:
    is_derived = after.type == ConditionType.READY and after.reason != "SpecInvalid"
    if is_derived or after.status is Truth.UNKNOWN:
        return False
    if before is None or before.status is Truth.UNKNOWN:
        return _is_bad(after)
    is_other_reason = before.reason != after.reason and after.type not in _BAD_WHEN_TRUE
    return before.status is not after.status or is_other_reason


def _is_bad(condition: Condition) -> bool:
    if condition.reason in ("Observing", "Disabled"):
        return False
    return (condition.status is Truth.TRUE) == (condition.type in _BAD_WHEN_TRUE)


# ── the status ───────────────────────────────────────────────────────────────────────────────────────────────────────


def build_status(seen: Observed, before: Status, now: datetime) -> Status:
    """Return the new status, given the one in the resource. What is unknown is None."""
    values: dict[str, Any] = {}
    if seen.queue is not None:
        if (queue := seen.queue.status) is not None:
            values |= {"backlog": queue.ledger.backlog, "dead_letters": queue.ledger.dead}
            values["oldest_age"] = write_age(queue.oldest_age_seconds)
        if (rates := seen.queue.recommendation.rates) is not None:
            values["arrival_per_second"] = round(rates.arrival_hits_per_second)
            values["settled_per_second"] = round(rates.settled_hits_per_second)
            if seen.mode is not Mode.NONE:
                values["hits_per_busy_second"] = round(rates.hits_per_busy_second)
    if (deployment := seen.scaling.deployment) is not None:
        values |= {"replicas": deployment.replicas, "ready_replicas": deployment.ready_replicas}
    if (decision := seen.scaling.decision) is not None:
        values["desired_replicas"] = decision.replicas
    return Status(
        observed_generation=seen.generation,
        decision=seen.scaling.change or (before.decision if seen.mode is not Mode.NONE else None),
        last_scale_time=seen.scaling.scaled_at or before.last_scale_time,
        indices=seen.index.indices if seen.index else None,
        retention_days=seen.retention_days,
        conditions=_build_conditions(seen, before, now),
        **values,
    )


def write_status(status: Status) -> dict[str, Any]:
    """Return the status as a merge patch: an unknown value removes its field."""
    return status.model_dump(mode="json", by_alias=True)


def is_news(before: Status, after: Status, seconds_since_write: float) -> bool:
    """Return whether the status must be written."""
    if _without_numbers(before) != _without_numbers(after):
        return True
    pairs = [(getattr(before, name), getattr(after, name)) for name in _MOVING]
    pairs.append((read_age(before.oldest_age), read_age(after.oldest_age)))
    return seconds_since_write >= MOVED_SECONDS and any(_is_moved(*pair) for pair in pairs)


def _without_numbers(status: Status) -> Status:
    return status.model_copy(update=dict.fromkeys((*_MOVING, "oldest_age")))


def _is_moved(before: int | None, after: int | None) -> bool:
    if before is None or after is None:
        return before is not after
    return abs(after - before) > MOVED_SHARE * abs(before)


def write_age(seconds: float) -> str:
    """Return an age in the format of Kubernetes: 12s, 1m5s, 2h3m."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60}s"
    return f"{whole // 3600}h{whole % 3600 // 60}m"


def read_age(text: str | None) -> int | None:
    """Return the seconds of an age in that format; None for None."""
    if text is None:
        return None
    seconds = {"h": 3600, "m": 60, "s": 1}
    return sum(int(number) * seconds[unit] for number, unit in re.findall(r"(\d+)([hms])", text))
