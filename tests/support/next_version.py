"""A stand-in for the next version of api and indexer: this version's code, told that it reads what version 2 writes.

It writes a field that this version does not know, and says on demand that a reader must know it. Started as a process
of its own: `python next_version.py api|indexer MIN_READER`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final
from unittest import mock

import hitcounter_api.__main__
import hitcounter_indexer.__main__
from hitcounter import codec, stream
from hitcounter.codec import HitBatch
from hitcounter.v1.hit_pb2 import HitBatch as HitBatchMessage

VERSION: Final = codec.READER_VERSION + 1
_NEW_FIELD: Final = bytes.fromhex("a206 036e6577")
"""Field 100, three bytes long."""


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
        mock.patch.object(codec, "READER_VERSION", VERSION),
        mock.patch.object(stream, "encode", build_encode(int(min_reader))),
    ):
        main_of[service]([])


if __name__ == "__main__":
    main()
