"""Converts a hit batch to the actions of a bulk request. Pure, and part of the contract.

Hits of a batch with the same id and the same millisecond become one document with the sum of their weights (a rollup).
No count needs a finer resolution than a millisecond, so nothing is lost, and a hot id costs little. The document has
the position of the first of these hits. A redelivered entry must give the same documents with the same ids, so this
rule is `id_rule` 1 of the contract, and golden tests check it; another rule needs another number. Hits with an
idempotency key are never merged: a repeated key must find its own document.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import orjson
from hitcounter.codec import HitBatch
from hitcounter.indices import document_id, document_id_prefix, index_of, keyed_document_id, write_alias


class Document(NamedTuple):
    """A document in Elasticsearch, and the hits that it contains."""

    position: int
    """The position of its first hit in the batch."""
    hits: int
    index_name: str
    document_id: str
    id: str
    timestamp_ms: int
    n: int
    """The sum of the weights of its hits."""
    is_keyed: bool


class Action(NamedTuple):
    """One document in a bulk request: its two lines, and what is needed to process the response."""

    position: int
    hits: int
    index_name: str
    is_keyed: bool
    lines: bytes


def build_documents(batch: HitBatch, index_prefix: str) -> list[Document]:
    """Return the documents of a batch in the order of their positions."""
    prefix = document_id_prefix(batch.producer, batch.sequence)
    documents = [
        Document(position, hits, index_of(index_prefix, time_ms), document_id(prefix, position), id_, time_ms, n, False)
        for (id_, time_ms), (position, hits, n) in _merge(batch).items()
    ]
    if batch.keys is None:
        return documents
    return sorted([*documents, *_build_keyed(batch, index_prefix)])


def build_actions(documents: list[Document]) -> list[Action]:
    """Return the create action of each document, as the bytes to send."""
    return [
        Action(
            document.position,
            document.hits,
            document.index_name,
            document.is_keyed,
            b'{"create":{"_index":"%b","_id":"%b"}}\n{"id":%b,"timestamp":%d,"n":%d}\n'
            % (
                write_alias(document.index_name).encode(),
                document.document_id.encode(),
                orjson.dumps(document.id),
                document.timestamp_ms,
                document.n,
            ),
        )
        for document in documents
    ]


def _merge(batch: HitBatch) -> dict[tuple[str, int], tuple[int, int, int]]:
    """Return (position, hits, n) of each (id, time) of the hits without a key, in the order of the positions."""
    merged: dict[tuple[str, int], tuple[int, int, int]] = {}
    keys, weights = batch.keys, batch.weights
    for position, hit in enumerate(zip(batch.ids, batch.times_ms, strict=True)):
        if keys is not None and keys[position]:
            continue
        weight = 1 if weights is None else weights[position]
        if (first := merged.get(hit)) is None:
            merged[hit] = (position, 1, weight)
        else:
            merged[hit] = (first[0], first[1] + 1, first[2] + weight)
    return merged


def _build_keyed(batch: HitBatch, index_prefix: str) -> Iterator[Document]:
    for position, key in enumerate(batch.keys or ()):
        if key:
            id_, time_ms = batch.ids[position], batch.times_ms[position]
            weight = 1 if batch.weights is None else batch.weights[position]
            name = keyed_document_id(id_, key, time_ms)
            yield Document(position, 1, index_of(index_prefix, time_ms), name, id_, time_ms, weight, True)
