"""A stand-in for the next version of api and indexer: this version's code, told that it reads what version 2 writes.

It writes a field that this version does not know, and says on demand that a reader must know it; its documents have a
field that the indices of this version lack. Started as a process of its own: `python next_version.py api|indexer
MIN_READER`.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final
from unittest import mock

import hitcounter_api.__main__
import hitcounter_indexer.__main__
from hitcounter import codec, indices
from hitcounter.codec import HitBatch
from hitcounter.stream import producer
from hitcounter.v1.hit_pb2 import HitBatch as HitBatchMessage
from hitcounter_indexer import entry_writer
from hitcounter_indexer.documents import Action, Document, build_actions

VERSION: Final = codec.READER_VERSION + 1
_NEW_FIELD: Final = bytes.fromhex("a206 036e6577")
"""Field 100, three bytes long."""


NEXT_MAPPING: Final[dict[str, Any]] = {
    **indices.MAPPING,
    "_meta": {"owner": indices.OWNER, "version": indices.MAPPING_VERSION + 1},
    "properties": {**indices.MAPPING["properties"], "accepted": {"type": "long"}},  # type: ignore[dict-item]  # a plain body
}
"""That of the indices of the next version: one field more."""


@contextlib.contextmanager
def next_mapping() -> Iterator[None]:
    """Have this process make and check indices as the next version does, while the block runs."""
    with (
        mock.patch.object(indices, "MAPPING", NEXT_MAPPING),
        mock.patch.object(indices, "MAPPING_VERSION", indices.MAPPING_VERSION + 1),
    ):
        yield


def build_next_actions(documents: list[Document]) -> Sequence[Action]:
    """Return the actions of the documents, each of which has the new field."""
    return add_next_field(build_actions(documents))


def add_next_field(actions: Sequence[Action]) -> list[Action]:
    """Return the actions with the new field in each document."""
    return [action._replace(lines=action.lines[:-2] + b',"accepted":1}\n') for action in actions]


def build_encode(min_reader: int) -> Callable[[HitBatch], bytes]:
    """Return an encoder that adds the new field and asks for a reader of that version."""

    def encode(batch: HitBatch) -> bytes:
        message = HitBatchMessage.FromString(codec.encode(batch))
        message.min_reader = min_reader
        return message.SerializeToString(deterministic=True) + _NEW_FIELD

    return encode


def main() -> None:
    """Run the service that the command line names."""
    service, min_reader = sys.argv[1:]
    main_of = {"api": hitcounter_api.__main__.main, "indexer": hitcounter_indexer.__main__.main}
    with (
        next_mapping(),
        mock.patch.object(entry_writer, "build_actions", build_next_actions),
        mock.patch.object(codec, "READER_VERSION", VERSION),
        mock.patch.object(producer, "encode", build_encode(int(min_reader))),
    ):
        main_of[service]([])


if __name__ == "__main__":
    main()
