"""One hit as a request, in any of the forms that mean the same: each has a way of its own through the API."""

from __future__ import annotations

import random
from typing import Final

import orjson
from hitcounter_benchmark.target import Target

from tests.chaos.record import TrackedHit

_HEADER_SHARE: Final = 0.3
"""Of requests with a key that carry it as a header."""
_DISK_SHARE: Final = 0.15
"""Of requests that ask to be acknowledged only once they are on disk: these have a lane of their own."""
_CHUNKED_SHARE: Final = 0.05
"""Of requests whose body comes in chunks: these do not take the fast path."""


def build_request(target: Target, hit: TrackedHit, draw: random.Random) -> bytes:
    """Return the bytes of one attempt to send the hit; the next attempt may look different."""
    fields = {"id": hit.id}
    headers = b""
    if hit.timestamp is not None:
        fields["timestamp"] = hit.timestamp
    if hit.key is not None and draw.random() < _HEADER_SHARE:
        headers += b"\r\nIdempotency-Key: " + hit.key.encode()
    elif hit.key is not None:
        fields["key"] = hit.key
    if draw.random() < _DISK_SHARE:
        headers += b"\r\nHitcounter-Durability: disk"
    body = orjson.dumps(fields)
    head, _, _ = target.post("/analytics", body).partition(b"\r\n\r\n")
    if draw.random() < _CHUNKED_SHARE:
        head = head.replace(b"Content-Length: %d" % len(body), b"Transfer-Encoding: chunked")
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    return head + headers + b"\r\n\r\n" + body
