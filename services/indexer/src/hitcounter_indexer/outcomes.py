"""What the answer for one document means. Pure.

The list of errors that condemn a document is closed on purpose: whatever is not known to be the document's own fault
(no permission, a shard limit, a closed or missing index, a bug) is kept and tried again, and said aloud. So a fault of
the whole cluster can never turn traffic into dead letters.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from hitcounter.reasons import find_cause

_DOCUMENTS_OWN_FAULT = frozenset({"document_parsing_exception", "mapper_parsing_exception"})
_INDEX_IS_LOST = "index_not_found_exception"
_FIELD_IS_UNKNOWN = "strict_dynamic_mapping_exception"
_SHARD_IS_RED = "unavailable_shards_exception"
_TOO_MUCH_TO_DO = frozenset({"es_rejected_execution_exception", "circuit_breaking_exception"})
"""Push-back (429): full queues, or no memory."""
_SHARD_IS_FULL = "Number of documents in the shard"
"""How Elasticsearch begins to say that a shard holds as many documents as it ever can: 2,147,483,519."""


class ItemOutcome(Enum):
    """What to do about one document now."""

    INDEXED = "indexed"
    DUPLICATE = "duplicate"
    """It was there already: a success."""
    RETRY = "retry"
    """Elasticsearch has too much to do, or cannot just now."""
    HOLD = "hold"
    """It refuses for a reason that is not the document's: kept and tried again, and somebody must know."""
    REJECT = "reject"
    """The document itself can never be stored: a dead letter."""


class ItemResult(NamedTuple):
    """The answer for one document."""

    outcome: ItemOutcome
    reason: str = ""
    detail: str = ""
    status: int = 0

    @property
    def is_index_lost(self) -> bool:
        """True where the index has to be made anew."""
        return self.reason == _INDEX_IS_LOST

    @property
    def is_field_unknown(self) -> bool:
        """True where the mapping of the index lacks a field of the document."""
        return self.reason == _FIELD_IS_UNKNOWN

    @property
    def is_push_back(self) -> bool:
        """True where this says nothing of the index, only that it has to be tried again, soon or when there is room."""
        return self.outcome is ItemOutcome.RETRY and (
            self.is_index_lost or self.reason in _TOO_MUCH_TO_DO or (not self.reason and self.status == 429)
        )

    @property
    def is_of_shard(self) -> bool:
        """True where one shard refuses everything new, though the others of its index may take what is theirs.

        It has no active primary, or is full: then it still meets the documents that it holds.
        """
        return self.reason == _SHARD_IS_RED or self.detail.startswith(_SHARD_IS_FULL)

    @property
    def may_be_invalid(self) -> bool:
        """True where the document itself may be why it is refused, if others of its index are not."""
        return self.outcome is ItemOutcome.HOLD and self.status == 400 and not self.is_of_shard


INDEXED = ItemResult(ItemOutcome.INDEXED)


def read_item(item: Mapping[str, object]) -> ItemResult:
    """Classify one element of a bulk answer's ``items``: the part under ``create``."""
    status, error = item.get("status"), item.get("error")
    if not isinstance(status, int):
        return ItemResult(ItemOutcome.HOLD, "no_status", "the answer names no status")
    if 200 <= status < 300:
        return INDEXED
    reason, detail = _read_error(error)
    if status == 409:
        return ItemResult(ItemOutcome.DUPLICATE, reason, detail, status)
    if status in (429, 503):
        return ItemResult(ItemOutcome.RETRY, reason, detail, status)
    if status == 400 and reason in _DOCUMENTS_OWN_FAULT:
        return ItemResult(ItemOutcome.REJECT, reason, detail, status)
    return ItemResult(ItemOutcome.HOLD, reason or f"status_{status}", detail, status)


def _read_error(error: object) -> tuple[str, str]:
    if not isinstance(error, Mapping):
        return "", ""
    # What follows there names the documents of this very request: no news each time, and no business of readiness.
    detail = str(error.get("reason", "")).partition(", request: [")[0][:300]
    cause = find_cause(error)
    return str(error.get("type", "")), f"{detail}; caused by {cause}" if cause else detail
