"""What one turn of the loop found and did, as plain values, so that the code that uses them needs no server. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from hitcounter.ledger import StreamStatus
from hitcounter.scaling import Recommendation

from hitcounter_operator.decision import Decision
from hitcounter_operator.resource import Mode


class Reason(StrEnum):
    """What happened, in one word: the reason of the Event."""

    SCALED = "Scaled"
    WOULD_SCALE = "WouldScale"
    GROUP_CREATED = "ConsumerGroupCreated"
    GROUP_REPAIRED = "ConsumerGroupRepaired"
    LEDGER_STEPPED_BACK = "LedgerSteppedBack"
    TEMPLATE_CREATED = "TemplateCreated"
    TEMPLATE_REPAIRED = "TemplateRepaired"
    TEMPLATE_UPGRADED = "TemplateUpgraded"
    TEMPLATE_NEWER = "TemplateNewer"
    TEMPLATE_REFUSED = "TemplateRefused"
    INDEX_REPAIRED = "IndexRepaired"
    CONDITION_CHANGED = "ConditionChanged"
    """Used in metrics in place of the many reasons of conditions."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing that happened: it becomes a log line and a Kubernetes Event."""

    reason: Reason
    message: str
    is_warning: bool = False
    event_reason: str = ""
    """The reason of the Event, if it differs from that of the notice."""

    @property
    def shown_reason(self) -> str:
        """The reason of the Event."""
        return self.event_reason or self.reason.value


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something is wrong: the reason and the message of its condition."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Deployment:
    """The Deployment of the indexers."""

    replicas: int
    """The number of pods that it requests."""
    ready_replicas: int


@dataclass(frozen=True, slots=True)
class QueueState:
    """What was found and repaired in the queue."""

    status: StreamStatus | None
    """None if Redis did not answer."""
    recommendation: Recommendation
    is_first: bool = False
    """True if there is no earlier state to compare with: then there are no rates yet."""
    problem: Problem | None = None
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class IndexState:
    """What was found and repaired in the indices."""

    indices: int | None
    """Days that have an index; None if Elasticsearch did not answer."""
    problem: Problem | None = None
    remark: str = ""
    """Something that is no problem, but worth knowing."""
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class ScalingState:
    """What was decided about the number of indexers, and done."""

    deployment: Deployment | None = None
    obstacle: Problem | None = None
    """What keeps the operator from scaling."""
    decision: Decision | None = None
    """None if nothing was decided: mode none, no Deployment, the first turn after a start."""
    change: str | None = None
    """The decision as a sentence, if it changed."""
    scaled_at: datetime | None = None
    """When the Deployment was scaled, if it was."""
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class Observed:
    """All that one turn found about the resource."""

    generation: int
    mode: Mode = Mode.NONE
    spec_problem: Problem | None = None
    """Why the spec is invalid; nothing else was checked then."""
    queue: QueueState | None = None
    index: IndexState | None = None
    """None until the first check of the indices has finished."""
    scaling: ScalingState = ScalingState()
    retention_days: int | None = None


def list_names(names: Iterable[str], most: int = 10) -> str:
    """Return names as one text: the first of them, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
