"""POST /analytics/batch, and the OpenAPI description of POST /analytics, which hot_path.py serves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from hitcounter.entries import Durability
from hitcounter.errors import HitcounterError
from hitcounter.hits import BATCH_MAX_HITS

from hitcounter_api.access import check_id
from hitcounter_api.batches import read_hits
from hitcounter_api.hot_path import PATH
from hitcounter_api.intake import Intakes
from hitcounter_api.openapi import problem_responses, schema_ref
from hitcounter_api.problems import Kind, Problem, problem_of
from hitcounter_api.requests import BATCH_MAX_BYTES, HIT_MAX_BYTES, BodyRoom, read_body, read_headers
from hitcounter_api.schemas import EXAMPLE_ID
from hitcounter_api.schemas import Hit as HitSchema


def add_routes(app: FastAPI, intakes: Intakes, clock_ms: Callable[[], int], *, max_batch_requests: int) -> None:
    """Add the routes that accept hits."""
    batches = _Batches(intakes, clock_ms, max_batch_requests)

    @app.post(
        PATH,
        tags=["track"],
        operation_id="trackHit",
        summary="Track one hit",
        description="The response is sent when the hit is stored in Redis. The body is JSON whatever its content type, "
        f"so that `navigator.sendBeacon` works. At most {HIT_MAX_BYTES:,} bytes.",
        status_code=204,
        responses={204: {"description": "The hit is accepted and will be counted."}, **_PROBLEMS},
        openapi_extra={"requestBody": _HIT_BODY, "parameters": [_KEY_HEADER, _DURABILITY_HEADER]},
    )
    async def track_hit() -> None:
        # Only for the OpenAPI document. protocol.py and app.Api pass `POST /analytics` to hot_path.py before FastAPI
        # and before any ASGI middleware: authentication or rate limits in a middleware would not protect the writes.
        # test_there_is_no_middleware_since_a_hit_would_not_pass_it fails if a middleware is added.
        raise AssertionError("hot_path.py answers before any routing")

    @app.post(
        f"{PATH}/batch",
        tags=["track"],
        operation_id="trackBatch",
        summary="Track many hits, all or none",
        description=f"The body is a JSON array, or NDJSON with one hit per line. At most {BATCH_MAX_HITS:,} hits and "
        f"{BATCH_MAX_BYTES:,} bytes. If any hit is invalid, none is accepted, and the response lists all invalid ones. "
        "Idempotency keys belong to the hits.",
        status_code=204,
        response_class=Response,  # the default one would send a Content-Type for no content
        responses={204: {"description": "All hits are accepted and will be counted."}, **_PROBLEMS},
        openapi_extra={"requestBody": _BATCH_BODY, "parameters": [_DURABILITY_HEADER]},
    )
    async def track_batch(request: Request) -> None:
        if (error := await batches.take(request)) is not None:
            raise problem_of(error)  # a new one: all requests of an entry share the error


class _Batches:
    """Reads batches. The memory of their bodies is limited, from the first byte to the response.

    A body takes memory for the bytes that have arrived, and not for its Content-Length: otherwise a few clients that
    send only a head could block all others. Few batches are decoded at once, because each decodes one slice per
    iteration of the event loop. A small one costs little more than single hits, and does not wait for large ones.
    """

    def __init__(self, intakes: Intakes, clock_ms: Callable[[], int], max_requests: int) -> None:
        self._intakes = intakes
        self._clock_ms = clock_ms
        self._room = BodyRoom(max_requests * BATCH_MAX_BYTES)
        self._small = asyncio.Semaphore(8)
        self._large = asyncio.Semaphore(1)

    async def take(self, request: Request) -> HitcounterError | None:
        """Read and check a batch and queue its hits. Return None if they are acknowledged, else why they are not."""
        head = read_headers(request.scope["headers"])
        if head.key is not None:
            detail = "a batch must not have an Idempotency-Key; give each of its hits a key"
            raise Problem(Kind.INVALID_BATCH, detail, {"field": "Idempotency-Key"})
        with self._room.reserve() as reserve:
            body = await read_body(request.receive, head.declared_bytes, BATCH_MAX_BYTES, reserve)
            received_ms = self._clock_ms()
            async with self._small if len(body) <= HIT_MAX_BYTES else self._large:
                hits = await read_hits(body, received_ms)
            caller = getattr(request.state, "caller", None)
            if caller is not None and caller.prefixes:  # 10,000 needless calls would block the event loop for 12 ms
                for hit in hits:
                    check_id(caller, hit.id)
            answer = self._intakes.choose(head.durability).add_all(hits)
            return await answer


_PROBLEMS: Final = problem_responses(400, 401, 403, 408, 413, 415, 422, 500, 503)

_EXAMPLES: Final[Mapping[str, Any]] = {
    "plain": {"summary": "A hit with the current time", "value": {"id": EXAMPLE_ID}},
    "dated": {
        "summary": "Three hits at a given time",
        "value": {"id": EXAMPLE_ID, "weight": 3, "timestamp": "2026-11-23T08:15:30.250Z"},
    },
    "keyed": {
        "summary": "A hit that can be retried safely",
        "value": {"id": EXAMPLE_ID, "key": "019aaf3c-8d5a-7cc3-9c1b-3f1d2a6b7c8d"},
    },
}
_HIT_CONTENT: Final = {"schema": schema_ref(HitSchema), "examples": _EXAMPLES}
_HIT_BODY: Final = {"required": True, "content": {"application/json": _HIT_CONTENT, "text/plain": _HIT_CONTENT}}
_BATCH_BODY: Final = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"type": "array", "items": schema_ref(HitSchema), "minItems": 1, "maxItems": BATCH_MAX_HITS},
            "example": [example["value"] for example in _EXAMPLES.values()],
        },
        "application/x-ndjson": {
            "schema": {"type": "string"},
            "example": f'{{"id": "{EXAMPLE_ID}"}}\n{{"id": "{EXAMPLE_ID}", "weight": 3}}\n',
        },
    },
}
_KEY_HEADER: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same as `key` in the body. If both are given, they must be equal.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 128},
}
_DURABILITY_HEADER: Final = {
    "name": "Hitcounter-Durability",
    "in": "header",
    "required": False,
    "description": "When the hits are acknowledged: `memory` (Redis has them in memory, and writes them to its "
    "append-only file as appendfsync says) or `disk` (Redis has synced them to disk). The server has the default.",
    "schema": {"type": "string", "enum": list(Durability)},
}
