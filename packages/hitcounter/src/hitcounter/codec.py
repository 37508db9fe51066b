"""Encodes and decodes hit batches by the contract in proto/hitcounter/v1/hit.proto.

Every later version must be able to decode what this one encodes; golden files test that. `decode` rejects a batch that
breaks a rule, so its result can be indexed without further checks. This module does not use Redis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from hitcounter.errors import EntryTooNew, UndecodableEntry
from hitcounter.hits import BATCH_MAX_HITS, ID_MAX_BYTES, KEY_MAX_BYTES, WEIGHT_MAX, Hit, is_longer_than
from hitcounter.v1.hit_pb2 import HitBatch as HitBatchMessage

READER_VERSION = 1
"""The version that this code can read. Entries with a higher `min_reader` are left to a newer indexer."""
ID_RULE = 1
"""The rule by which documents.py merges hits and indices.py names documents. A redelivered entry keeps its rule."""

VERSION_MAX = 1000
"""The highest reader version and id rule that hitcounter may ever have. An entry with a higher one is damaged: no
indexer would ever read it, and the as-of would not advance."""

PRODUCER_BYTES = 12
SEQUENCE_MAX = 2**48 - 1
TIME_MAX_MS = 253_402_300_800_000
"""The year 10000: an index name has four digits for the year."""


@dataclass(frozen=True, slots=True)
class HitBatch:
    """The hits of one entry, in columns of equal length: element i of each column belongs to hit i.

    (producer, sequence) identifies the batch for ever. Together with a position it identifies a document.
    """

    producer: bytes
    sequence: int
    ids: Sequence[str]
    times_ms: Sequence[int]
    weights: Sequence[int] | None = None
    """None if every weight is 1."""
    keys: Sequence[str] | None = None
    """None if no hit has a key; an empty string for a hit without one."""
    id_rule: int = ID_RULE
    traceparent: str = ""
    """Its position in a trace (W3C Trace Context); empty if it is not traced."""

    def __len__(self) -> int:
        return len(self.ids)


def build_batch(producer: bytes, sequence: int, hits: Sequence[Hit]) -> HitBatch:
    """Convert hits into columns. The hits must be in the order of their arrival."""
    ids, times_ms, weights, keys = zip(*hits, strict=True)
    return HitBatch(
        producer,
        sequence,
        ids,
        times_ms,
        weights if any(weight != 1 for weight in weights) else None,
        keys if any(keys) else None,
    )


def encode(batch: HitBatch) -> bytes:
    """Return the batch as bytes. Equal batches give equal bytes."""
    base_ms = batch.times_ms[0]
    message = HitBatchMessage(
        min_reader=READER_VERSION,
        id_rule=batch.id_rule,
        producer=batch.producer,
        sequence=batch.sequence,
        base_time_ms=base_ms,
        ids=batch.ids,
        time_offsets_ms=[time_ms - base_ms for time_ms in batch.times_ms],
        weights=batch.weights,
        keys=batch.keys,
        traceparent=batch.traceparent,
    )
    return message.SerializeToString(deterministic=True)


def decode(payload: bytes) -> HitBatch:
    """Return the batch that `encode` of this or another version wrote.

    Raises:
        UndecodableEntry: the bytes violate the contract.
        EntryTooNew: the bytes follow a later version of the contract.
    """
    try:
        message = HitBatchMessage.FromString(payload)
    except DecodeError as error:
        raise UndecodableEntry(f"not a HitBatch: {error}") from error
    if message.min_reader > VERSION_MAX or message.id_rule > VERSION_MAX:
        raise UndecodableEntry(
            f"needs a reader of version {message.min_reader}, id rule {message.id_rule}: none has those"
        )
    if message.min_reader > READER_VERSION:
        raise EntryTooNew(f"needs a reader of version {message.min_reader}, this is version {READER_VERSION}")
    if message.id_rule > ID_RULE:
        raise EntryTooNew(f"names its documents by rule {message.id_rule}, this indexer knows rule {ID_RULE}")
    _check_columns(message)
    base_ms = message.base_time_ms
    return HitBatch(
        producer=message.producer,
        sequence=message.sequence,
        ids=message.ids,
        times_ms=[base_ms + offset_ms for offset_ms in message.time_offsets_ms],
        weights=message.weights or None,
        keys=message.keys or None,
        id_rule=message.id_rule,
        traceparent=message.traceparent,
    )


def read_traceparent(payload: bytes) -> str:
    """Return the traceparent of the batch; empty if it has none or cannot be decoded."""
    try:
        return HitBatchMessage.FromString(payload).traceparent
    except DecodeError:
        return ""


def _check_columns(message: HitBatchMessage) -> None:
    count = len(message.ids)
    complaints = {
        f"it holds {count} hits, the limit is {BATCH_MAX_HITS}": not 1 <= count <= BATCH_MAX_HITS,
        "it names no id rule": message.id_rule < 1,
        "its producer has not 12 bytes": len(message.producer) != PRODUCER_BYTES,
        "its sequence is out of range": not 1 <= message.sequence <= SEQUENCE_MAX,
        "its columns differ in length": (
            len(message.time_offsets_ms) != count
            or len(message.weights) not in (0, count)
            or len(message.keys) not in (0, count)
        ),
        "a time is out of range": not _are_times_valid(message),
        "an id is empty or too long": any(not id_ or is_longer_than(id_, ID_MAX_BYTES) for id_ in message.ids),
        "a key is too long": any(is_longer_than(key, KEY_MAX_BYTES) for key in message.keys),
        "a weight is out of range": any(not 1 <= weight <= WEIGHT_MAX for weight in message.weights),
    }
    for complaint, is_true in complaints.items():
        if is_true:
            raise UndecodableEntry(complaint)


def _are_times_valid(message: HitBatchMessage) -> bool:
    offsets_ms = message.time_offsets_ms
    if not offsets_ms:
        return True
    return message.base_time_ms + min(offsets_ms) >= 0 and message.base_time_ms + max(offsets_ms) < TIME_MAX_MS
