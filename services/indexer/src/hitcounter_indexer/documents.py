"""From a hit batch to the actions of a bulk. Pure, and part of the contract.

Hits of one id in one millisecond of one batch become one document with the sum of their weights: lossless, since no
answer looks closer than a millisecond, and a hot id costs little. The document takes the position of the first of
them. A redelivered entry must give the same documents under the same ids, so this rule is `id_rule` 1 of the contract
and golden tests pin it; another rule would get another number. Hits with a key never merge: each is a document that a
repeated key must meet.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import orjson
from hitcounter.codec import HitBatch
from hitcounter.indices import document_id, document_id_prefix, index_of, keyed_document_id, write_alias


class Document(NamedTuple):
    """What Elasticsearch stores, and which hits it stands for."""

    position: int
    """Where the first of its hits stands in the batch."""
    hits: int
    index_name: str
    document_id: str
    id: str
    timestamp_ms: int
    n: int
    """The weights of its hits, added up."""
    is_keyed: bool


class Action(NamedTuple):
    """How a bulk asks for one document: the two lines of it, and what has to be known of its answer."""

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
    """Return the create action of each document, as the bytes that go over the wire."""
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
