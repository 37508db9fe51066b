"""An HTTP proxy in front of a real Elasticsearch that spoils what indexers are told of their bulks.

It runs on a thread of its own. Everything but bulks is passed on as it is; one of the moods below says what happens to
a bulk. (Cut and slow connections are the faulty wire's business: proxy.py.)
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

from aiohttp import ClientError, ClientSession, web

_BODY_MAX_BYTES = 100 * 1024 * 1024
_STATUS_TYPES = {
    400: "document_parsing_exception",
    403: "security_exception",
    429: "es_rejected_execution_exception",
    503: "unavailable_shards_exception",
}
_PASSING = (429, 503)
"""What says nothing of the document."""


class Mood(Enum):
    """What happens to a bulk."""

    HONEST = "passed on, like its answer"
    PUSHED_BACK = "not passed on, answered 429"
    REFUSED = "not passed on, answered 503"
    DENIED = "passed on, and answered 503 though all of it was done"
    ITEMS_FAILED = "passed on without some of its documents, which are answered 429 or 503 one by one"
    ITEMS_REJECTED = "passed on without some of its documents, which are called impossible to store"
    INDEX_REFUSED = "passed on without the documents of any day but today, which are answered 403"
    ITEMS_DENIED = "passed on whole, some of its documents answered 429 or 503 though they are there"


class BulkFaults:
    """The proxy; a context manager. Its mood may be changed from any thread."""

    def __init__(self, target_url: str, *, seed: int = 0) -> None:
        self.mood = Mood.HONEST
        self.spoiled = 0
        """Bulks that were not passed on and answered honestly."""
        self._target_url = target_url
        self._draw = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="bulk faults", daemon=True)
        self._session: ClientSession
        self._runner: web.AppRunner
        self.port = 0

    @property
    def url(self) -> str:
        """The address to use in place of Elasticsearch's."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> BulkFaults:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(5)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(15)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _start(self) -> None:
        self._session = ClientSession(auto_decompress=False, skip_auto_headers=("Accept-Encoding",))
        app = web.Application(client_max_size=_BODY_MAX_BYTES)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _stop(self) -> None:
        await self._runner.cleanup()
        await self._session.close()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        mood = self.mood if request.path.endswith("/_bulk") else Mood.HONEST
        self.spoiled += mood is not Mood.HONEST
        try:
            return await self._treat(request, body, mood)
        except (ClientError, OSError):
            # What a client without a proxy would see of an Elasticsearch that is away.
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=502)

    async def _treat(self, request: web.Request, body: bytes, mood: Mood) -> web.Response:
        match mood:
            case Mood.PUSHED_BACK:
                return _refuse(429)
            case Mood.REFUSED:
                return _refuse(503)
            case Mood.DENIED:
                await self._pass_on(request, body)
                return _refuse(503)
            case Mood.ITEMS_FAILED:
                return await self._pass_on_some(request, body, _PASSING, self._is_unlucky)
            case Mood.ITEMS_REJECTED:
                return await self._pass_on_some(request, body, (400,), self._is_unlucky)
            case Mood.INDEX_REFUSED:
                return await self._pass_on_some(request, body, (403,), _is_of_another_day)
            case Mood.ITEMS_DENIED:
                return self._deny_some(await self._pass_on(request, body))
            case Mood.HONEST:
                return await self._pass_on(request, body)

    async def _pass_on(self, request: web.Request, body: bytes) -> web.Response:
        headers = {name: request.headers[name] for name in ("Content-Type", "Accept") if name in request.headers}
        url = f"{self._target_url}{request.path_qs}"
        async with self._session.request(request.method, url, data=body, headers=headers) as answer:
            kept = {
                name: answer.headers[name] for name in ("Content-Type", "X-Elastic-Product") if name in answer.headers
            }
            return web.Response(status=answer.status, body=await answer.read(), headers=kept)

    async def _pass_on_some(
        self, request: web.Request, body: bytes, statuses: Sequence[int], is_kept_away: Callable[[bytes], bool]
    ) -> web.Response:
        """Keep some of the documents from Elasticsearch, and answer for them."""
        lines = body.splitlines(keepends=True)
        documents = [b"".join(lines[at : at + 2]) for at in range(0, len(lines), 2)]
        failed = [is_kept_away(document) for document in documents]
        if all(failed):
            return _answer_items(_refuse(429), [self._fail(statuses) for _ in documents])
        kept = b"".join(document for document, is_failed in zip(documents, failed, strict=True) if not is_failed)
        answer = await self._pass_on(request, kept)
        if answer.status != 200:
            return answer
        items = iter(_read(answer)["items"])
        return _answer_items(answer, [self._fail(statuses) if is_failed else next(items) for is_failed in failed])

    def _deny_some(self, answer: web.Response) -> web.Response:
        if answer.status != 200:
            return answer
        items = [self._fail(_PASSING) if self._is_unlucky() else item for item in _read(answer)["items"]]
        return _answer_items(answer, items)

    def _is_unlucky(self, _: bytes = b"") -> bool:
        return self._draw.random() < 1 / 3

    def _fail(self, statuses: Sequence[int]) -> dict[str, Any]:
        status = self._draw.choice(statuses)
        error = {"type": _STATUS_TYPES[status], "reason": "chaos"}
        return {"create": {"status": status, "error": error}}


def _is_of_another_day(document: bytes) -> bool:
    """Tell by the name of its index whether a document does not belong to today."""
    return time.strftime("-%Y.%m.%d-", time.gmtime()).encode() not in document.split(b"\n", 1)[0]


def _read(answer: web.Response) -> dict[str, Any]:
    assert isinstance(answer.body, bytes)
    return dict(json.loads(answer.body))


def _answer_items(answer: web.Response, items: Sequence[dict[str, Any]]) -> web.Response:
    is_wrong = any(item["create"]["status"] >= 300 for item in items)
    body = json.dumps({"errors": is_wrong, "items": items}).encode()
    return web.Response(body=body, headers=_without_length(answer))


def _without_length(answer: web.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.lower() != "content-length"}


def _refuse(status: int) -> web.Response:
    body = {"error": {"type": _STATUS_TYPES[status], "reason": "chaos"}, "status": status}
    headers = {"Content-Type": "application/json", "X-Elastic-Product": "Elasticsearch"}
    return web.Response(status=status, body=json.dumps(body).encode(), headers=headers)
