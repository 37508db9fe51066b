"""The results of one turn of the loop, as plain values, so that the code that uses them needs no server. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from hitcounter.ledger import StreamStatus

from hitcounter_operator.decide import Decision
from hitcounter_operator.notes import Note, Problem
from hitcounter_operator.objects import Deployment
from hitcounter_operator.resource import Mode


@dataclass(frozen=True, slots=True)
class QueueLook:
    """What was found and repaired in the queue."""

    status: StreamStatus | None
    """None if Redis did not answer."""
    arrival_per_second: float | None
    """Hits accepted per second since the previous turn; None if not known."""
    settled_per_second: float | None
    problem: Problem | None
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class IndexLook:
    """What was found, and done, about the indices."""

    indices: int | None
    """Days that have an index; None where Elasticsearch did not answer."""
    problem: Problem | None
    remark: str = ""
    """What is no problem, and yet worth knowing."""
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class ScalingLook:
    """What was found, and done, about the number of indexers."""

    deployment: Deployment | None = None
    obstacle: Problem | None = None
    """What keeps the operator from scaling."""
    decision: Decision | None = None
    """None where nothing was decided: mode none, no Deployment, the first look after a start."""
    told: str | None = None
    """The decision as a sentence, if it changed."""
    scaled_at: datetime | None = None
    """When the Deployment was scaled, if it was."""
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class Findings:
    """All that one turn found about the resource."""

    generation: int
    mode: Mode = Mode.NONE
    spec_problem: Problem | None = None
    """Why the spec cannot be read; nothing else was looked at then."""
    queue: QueueLook | None = None
    index: IndexLook | None = None
    """None until the first check of the indices has finished."""
    scaling: ScalingLook = ScalingLook()
    retention_days: int | None = None
