"""Classifies the response of Elasticsearch for one document. Pure.

Only errors in a fixed list reject a document. Any other error (a missing permission, a shard limit, a closed or missing
index, a bug) means that the document is kept and retried, and that the error is reported. So a problem of the whole
cluster never turns hits into dead letters.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from hitcounter.reasons import find_cause

_INVALID_DOCUMENT = frozenset({"document_parsing_exception", "mapper_parsing_exception"})
_INDEX_MISSING = "index_not_found_exception"
_FIELD_UNKNOWN = "strict_dynamic_mapping_exception"
_SHARD_UNAVAILABLE = "unavailable_shards_exception"
_OVERLOADED = frozenset({"es_rejected_execution_exception", "circuit_breaking_exception"})
"""Backpressure (429): full queues, or not enough memory."""
_SHARD_IS_FULL = "Number of documents in the shard"
"""The beginning of the error for a shard that has the maximum number of documents: 2,147,483,519."""


class ItemOutcome(Enum):
    """What to do with one document."""

    INDEXED = "indexed"
    DUPLICATE = "duplicate"
    """It already exists: a success."""
    RETRY = "retry"
    """Elasticsearch is overloaded, or cannot write it at the moment."""
    HOLD = "hold"
    """Elasticsearch refuses it although it is valid. It is kept and retried, and an operator must see the reason."""
    REJECT = "reject"
    """The document can never be stored: a dead letter."""


STORED = (ItemOutcome.INDEXED, ItemOutcome.DUPLICATE)
NOT_WRITTEN = (ItemOutcome.RETRY, ItemOutcome.HOLD)


class ItemResult(NamedTuple):
    """The response for one document."""

    outcome: ItemOutcome
    reason: str = ""
    detail: str = ""
    status: int = 0

    @property
    def description(self) -> str:
        """The reason with its detail."""
        return f"{self.reason}: {self.detail}"

    @property
    def is_index_missing(self) -> bool:
        """True if the index must be created again."""
        return self.reason == _INDEX_MISSING

    @property
    def is_field_unknown(self) -> bool:
        """True if the mapping of the index lacks a field of the document."""
        return self.reason == _FIELD_UNKNOWN

    @property
    def is_backpressure(self) -> bool:
        """True if this is backpressure: it says nothing about the index, only that the request must be retried."""
        return self.outcome is ItemOutcome.RETRY and (
            self.is_index_missing or self.reason in _OVERLOADED or (not self.reason and self.status == 429)
        )

    @property
    def is_shard_refusal(self) -> bool:
        """True if one shard refuses all new documents, while other shards of its index may accept theirs.

        The shard has no active primary, or is full. A full shard still recognizes the documents that it has.
        """
        return self.reason == _SHARD_UNAVAILABLE or self.detail.startswith(_SHARD_IS_FULL)

    @property
    def may_be_invalid(self) -> bool:
        """True if the document itself may be invalid, provided that its index accepts others."""
        return self.outcome is ItemOutcome.HOLD and self.status == 400 and not self.is_shard_refusal


INDEXED = ItemResult(ItemOutcome.INDEXED)


def read_item(item: Mapping[str, object]) -> ItemResult:
    """Classify one element of ``items`` in a bulk response: the part under ``create``."""
    status, error = item.get("status"), item.get("error")
    if not isinstance(status, int):
        return ItemResult(ItemOutcome.HOLD, "no_status", "the response has no status")
    if 200 <= status < 300:
        return INDEXED
    reason, detail = _read_error(error)
    if status == 409:
        return ItemResult(ItemOutcome.DUPLICATE, reason, detail, status)
    if status in (429, 503):
        return ItemResult(ItemOutcome.RETRY, reason, detail, status)
    if status == 400 and reason in _INVALID_DOCUMENT:
        return ItemResult(ItemOutcome.REJECT, reason, detail, status)
    return ItemResult(ItemOutcome.HOLD, reason or f"status_{status}", detail, status)


def _read_error(error: object) -> tuple[str, str]:
    if not isinstance(error, Mapping):
        return "", ""
    # The rest of the text lists the documents of this request: it differs each time, and is of no use in /readyz.
    detail = str(error.get("reason", "")).partition(", request: [")[0][:300]
    cause = find_cause(error)
    return str(error.get("type", "")), f"{detail}; caused by {cause}" if cause else detail
