"""Builds the status of the resource from the results of a turn, and decides when to write it. Pure.

Each write goes to etcd and wakes all watchers. So a status is written at once if its meaning changes, but only every
few seconds if only numbers change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pydantic import ValidationError

from hitcounter_operator.decide import Decision, Hold, Limit
from hitcounter_operator.findings import Findings, IndexLook, QueueLook
from hitcounter_operator.notes import Note, Reason
from hitcounter_operator.resource import Condition, ConditionType, Mode, Status, Truth

MOVED_SHARE: Final = 0.05
"""The relative change from which on a number is written."""
MOVED_SECONDS: Final = 10.0
"""Minimum time between two writes if only numbers changed."""
_MOVING: Final = ("backlog", "arrival_per_second", "settled_per_second", "hits_per_busy_second", "start_seconds")
_BAD_WHEN_TRUE: Final = (ConditionType.SINK_THROTTLED, ConditionType.SCALING_LIMITED)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The new content of a condition."""

    truth: Truth
    reason: str
    message: str


def read_status(written: Mapping[str, Any]) -> Status:
    """Return the status in the resource; an empty one if another version wrote it and it cannot be parsed."""
    try:
        return Status.model_validate(written)
    except ValidationError:
        return Status()


# ── conditions ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _judge(findings: Findings) -> dict[ConditionType, Verdict]:
    if findings.spec_problem is not None:
        problem = findings.spec_problem
        return {ConditionType.READY: Verdict(Truth.FALSE, problem.reason, problem.message)}
    verdicts = {
        ConditionType.QUEUE_READY: _judge_queue(findings.queue),
        ConditionType.INDEX_READY: _judge_index(findings.index),
        ConditionType.AUTOSCALING_ACTIVE: _judge_scaling(findings),
        ConditionType.SCALING_LIMITED: _judge_limit(findings.scaling.decision),
        ConditionType.SINK_THROTTLED: _judge_sink(findings.scaling.decision),
    }
    return {ConditionType.READY: _judge_all(verdicts, findings.mode), **verdicts}


def _judge_queue(look: QueueLook | None) -> Verdict:
    if look is None:
        return Verdict(Truth.UNKNOWN, "NotLookedYet", "The queue has not been checked yet.")
    if look.problem is not None:
        return Verdict(Truth.FALSE, look.problem.reason, look.problem.message)
    return Verdict(Truth.TRUE, "QueueWell", "Redis accepts hits, and the consumer group exists.")


def _judge_index(look: IndexLook | None) -> Verdict:
    if look is None:
        return Verdict(Truth.UNKNOWN, "NotLookedYet", "The first check of the indices has not finished yet.")
    if look.problem is not None:
        return Verdict(Truth.FALSE, look.problem.reason, look.problem.message)
    text = "Hits can be written to all indices."
    return Verdict(Truth.TRUE, "IndexWell", f"{text} {look.remark}".rstrip())


def _judge_scaling(findings: Findings) -> Verdict:
    obstacle, decision = findings.scaling.obstacle, findings.scaling.decision
    if obstacle is not None:
        return Verdict(Truth.FALSE, obstacle.reason, obstacle.message)
    if decision is None:
        return Verdict(Truth.UNKNOWN, "FirstLook", "A rate needs two observations; this was the first.")
    if decision.hold is Hold.UNKNOWN:
        unknown = " and ".join(decision.unknown)
        return Verdict(Truth.FALSE, decision.hold.value, f"The number of indexers does not change: {unknown}.")
    return Verdict(Truth.TRUE, "Scaling", "The operator scales the Deployment by its formula.")


def _judge_limit(decision: Decision | None) -> Verdict:
    if decision is None or decision.terms is None:
        return Verdict(Truth.UNKNOWN, "NotDecided", "Nothing was decided.")
    policy = decision.policy
    if decision.limit is Limit.MAX:
        text = f"More indexers are needed than maxReplicas ({policy.max_replicas}) allows."
        return Verdict(Truth.TRUE, "TooFewAllowed", text)
    if decision.limit is Limit.MIN:
        text = f"Fewer indexers than minReplicas ({policy.min_replicas}) would be enough."
        return Verdict(Truth.FALSE, "AtMinimum", text)
    text = f"The wanted number of indexers is within {policy.min_replicas} to {policy.max_replicas}."
    return Verdict(Truth.FALSE, "WithinBounds", text)


def _judge_sink(decision: Decision | None) -> Verdict:
    if decision is None:
        return Verdict(Truth.UNKNOWN, "NotDecided", "Nothing was decided.")
    if decision.hold is Hold.PUSH_BACK:
        text = "Elasticsearch applies backpressure: more indexers would only add load, so none is added."
        return Verdict(Truth.TRUE, "ElasticsearchPushesBack", text)
    return Verdict(Truth.FALSE, "NoPushBack", "Elasticsearch applies no backpressure.")


def _judge_all(verdicts: Mapping[ConditionType, Verdict], mode: Mode) -> Verdict:
    """Return whether queue and indices are ready and, in mode `operator`, whether the operator can scale."""
    needed = [ConditionType.QUEUE_READY, ConditionType.INDEX_READY]
    if mode is Mode.OPERATOR:
        needed.append(ConditionType.AUTOSCALING_ACTIVE)
    for truth in (Truth.FALSE, Truth.UNKNOWN):
        for kind in needed:
            if verdicts[kind].truth is truth:
                return Verdict(truth, verdicts[kind].reason, verdicts[kind].message)
    return Verdict(Truth.TRUE, "AllWell", "Queue and indices are ready, and the spec is valid.")


def _build_conditions(findings: Findings, before: Status, now: datetime) -> list[Condition]:
    old = {condition.type: condition for condition in before.conditions}
    conditions = []
    for kind, verdict in _judge(findings).items():
        is_same = kind in old and old[kind].status is verdict.truth
        conditions.append(
            Condition(
                type=kind,
                status=verdict.truth,
                observed_generation=findings.generation,
                last_transition_time=old[kind].last_transition_time if is_same else now,
                reason=verdict.reason,
                message=verdict.message,
            )
        )
    return conditions


def find_turns(before: Status, after: Status) -> list[Note]:
    """Return a note for each condition that became another, or whose reason did; Ready follows from the others."""
    old = {condition.type: condition for condition in before.conditions}
    return [
        Note(Reason.CONDITION_CHANGED, condition.message, is_warning=_is_bad(condition), event_reason=condition.reason)
        for condition in after.conditions
        if _is_told(old.get(condition.type), condition)
    ]


def _is_told(before: Condition | None, after: Condition) -> bool:
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


def build_status(findings: Findings, before: Status, now: datetime) -> Status:
    """Return the new status, given the one in the resource."""
    queue = findings.queue.status if findings.queue else None
    look, scaling = findings.queue, findings.scaling
    decision, deployment = scaling.decision, scaling.deployment
    rates = decision.rates if decision else None
    return Status(
        observed_generation=findings.generation,
        backlog=queue.ledger.backlog if queue else None,
        oldest_age=write_age(queue.oldest_age_seconds) if queue else None,
        dead_letters=queue.ledger.dead if queue else None,
        arrival_per_second=_round(look.arrival_per_second) if look else None,
        settled_per_second=_round(look.settled_per_second) if look else None,
        hits_per_busy_second=_round(rates.hits_per_busy_second) if rates else None,
        start_seconds=_round(rates.start_seconds) if rates else None,
        replicas=deployment.replicas if deployment else None,
        ready_replicas=deployment.ready_replicas if deployment else None,
        desired_replicas=decision.replicas if decision else None,
        decision=scaling.told or (before.decision if findings.mode is not Mode.NONE else None),
        last_scale_time=scaling.scaled_at or before.last_scale_time,
        indices=findings.index.indices if findings.index else None,
        retention_days=findings.retention_days,
        conditions=_build_conditions(findings, before, now),
    )


def _round(number: float | None) -> int | None:
    return None if number is None else round(number)


def write_status(status: Status) -> dict[str, Any]:
    """Return the status as a merge patch: an unknown value removes its field."""
    return status.model_dump(mode="json", by_alias=True)


def is_news(before: Status, after: Status, seconds_since_write: float) -> bool:
    """Return whether the status must be written."""
    if _without_numbers(before) != _without_numbers(after):
        return True
    return seconds_since_write >= MOVED_SECONDS and any(_find_moves(before, after))


def _without_numbers(status: Status) -> Status:
    return status.model_copy(update=dict.fromkeys((*_MOVING, "oldest_age")))


def _find_moves(before: Status, after: Status) -> Iterator[bool]:
    for name in _MOVING:
        yield _is_moved(getattr(before, name), getattr(after, name))
    yield _is_moved(read_age(before.oldest_age), read_age(after.oldest_age))


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


_UNITS: Final = {"h": 3600, "m": 60, "s": 1}


def read_age(text: str | None) -> int | None:
    """Return the seconds of an age in that format; None for None."""
    if text is None:
        return None
    seconds, digits = 0, ""
    for character in text:
        if character in _UNITS:
            seconds, digits = seconds + int(digits or 0) * _UNITS[character], ""
        else:
            digits += character
    return seconds
