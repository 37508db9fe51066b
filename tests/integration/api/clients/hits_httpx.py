"""httpx as it comes: a body of a known length, and one in chunks."""

import sys
from collections.abc import Iterator

import httpx

HIT = b'{"id":"httpx"}'


def in_pieces() -> Iterator[bytes]:
    yield HIT[:5]
    yield HIT[5:]


with httpx.Client() as client:
    for body in (HIT, HIT, HIT, in_pieces()):
        sys.stdout.write(f"{client.post(sys.argv[1], content=body).status_code}\n")
