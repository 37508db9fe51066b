"""Notices for operators: each one becomes a Kubernetes Event and a log line. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """What happened, in one word: the reason of the Event."""

    SCALED = "Scaled"
    WOULD_SCALE = "WouldScale"
    GROUP_CREATED = "ConsumerGroupCreated"
    GROUP_REPAIRED = "ConsumerGroupRepaired"
    CONSUMERS_REMOVED = "DeadConsumersRemoved"
    LEDGER_STEPPED_BACK = "LedgerSteppedBack"
    TEMPLATE_CREATED = "TemplateCreated"
    TEMPLATE_REPAIRED = "TemplateRepaired"
    TEMPLATE_UPGRADED = "TemplateUpgraded"
    TEMPLATE_NEWER = "TemplateNewer"
    TEMPLATE_REFUSED = "TemplateRefused"
    INDEX_REPAIRED = "IndexRepaired"
    INDICES_DROPPED = "IndicesDropped"
    CLOCK_DOUBTED = "ClockDoubted"
    CONDITION_CHANGED = "ConditionChanged"
    """Used in metrics in place of the many reasons of conditions."""


@dataclass(frozen=True, slots=True)
class Note:
    """One thing that happened."""

    reason: Reason
    message: str
    is_warning: bool = False
    event_reason: str = ""
    """The reason of the Event, if it differs from that of the note."""

    @property
    def shown_reason(self) -> str:
        """The reason of the Event."""
        return self.event_reason or self.reason.value


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something is wrong: the reason and the message of its condition."""

    reason: str
    message: str
