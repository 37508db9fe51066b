"""What is said of a server that is not an Elasticsearch which is supported, or that a proxy speaks for.

The answers are those of OpenSearch 2.19, Elasticsearch 7.17 and a future 10, nginx, and a gateway.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from elasticsearch import AsyncElasticsearch
from hitcounter.elastic import Indices, open_client
from hitcounter.errors import IndexUnavailable
from hitcounter.indices import TemplateState
from hitcounter.settings import ElasticsearchSettings, IndexSettings

PRODUCT = {"X-Elastic-Product": "Elasticsearch"}
DAY = "hits-2026.11.24"
BAD_GATEWAY = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body><hr>nginx</body>\r\n</html>"
SUPPORTED = "which is not supported; Elasticsearch 8.x and 9.x are supported"


@dataclass
class Impostor:
    """Answers `GET /` as it says it is, and all else as it is told to."""

    root: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    media_status: int | None = None
    """The status for the media type of a client of another version."""
    answer: web.Response | None = None
    """The answer to everything."""
    asked: list[str] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path}")
        if self.answer is not None:
            return web.Response(status=self.answer.status, text=self.answer.text, content_type=self.answer.content_type)
        is_of_other_version = "compatible-with" in str(request.headers.get("Accept"))
        if self.media_status and is_of_other_version:
            reason = "Accept version must be either version 10 or 9, but found 8."
            error: Any = {"type": "media_type_header_exception", "reason": reason}
            return self._json({"error": error, "status": self.media_status}, status=self.media_status)
        if request.path == "/":
            return self._json(self.root)
        if request.method == "PUT":  # OpenSearch knows no such media type
            return self._json({"error": "Content-Type header is not supported", "status": 406}, status=406)
        return self._json({"index_templates": []})

    def _json(self, body: object, status: int = 200) -> web.Response:
        return web.json_response(body, status=status, headers=self.headers)


@pytest.fixture
def impostor() -> Impostor:
    return Impostor()


@pytest.fixture
async def client(impostor: Impostor) -> AsyncIterator[AsyncElasticsearch]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", impostor.handle)
    async with (
        TestServer(app) as server,
        open_client(ElasticsearchSettings(url=str(server.make_url("")).rstrip("/"))) as client,
    ):
        yield client


@pytest.fixture
def indices(client: AsyncElasticsearch) -> Indices:
    return Indices(client, "hits", IndexSettings())


async def reason_of(indices: Indices) -> IndexUnavailable:
    with pytest.raises(IndexUnavailable) as caught:
        await indices.ensure([DAY])
    return caught.value


async def test_opensearch_is_named_with_what_is_supported(impostor: Impostor, indices: Indices) -> None:
    impostor.root = {"version": {"distribution": "opensearch", "number": "2.19.1"}, "tagline": "The OpenSearch Project"}
    error = await reason_of(indices)
    assert f"the server is OpenSearch 2.19.1, {SUPPORTED}" in error.summary
    for doing in (indices.ensure_template(), indices.repair(), indices.refresh([DAY]), indices.drop_expired(0)):
        with pytest.raises(IndexUnavailable, match=r"OpenSearch 2\.19\.1"):
            await doing


@pytest.mark.parametrize("number", ["7.17.29", "10.0.0"])
async def test_elasticsearch_of_a_version_that_is_not_supported_is_named(
    impostor: Impostor, indices: Indices, number: str
) -> None:
    impostor.root, impostor.headers, impostor.media_status = {"version": {"number": number}}, PRODUCT, 400
    assert f"the server is Elasticsearch {number}, {SUPPORTED}" in (await reason_of(indices)).summary
    look = await indices.ensure_template()
    assert look.state is TemplateState.REFUSED
    assert number in look.refusal


async def test_elasticsearch_behind_something_that_takes_its_header_away_is_said_to_be_none(
    impostor: Impostor, indices: Indices
) -> None:
    impostor.root = {"version": {"number": "8.19.8"}}
    with pytest.raises(IndexUnavailable, match="no Elasticsearch by the headers of its answers"):
        await indices.repair()


async def test_proxy_that_answers_html_is_named_as_one(impostor: Impostor, indices: Indices) -> None:
    impostor.answer = web.Response(status=502, text=BAD_GATEWAY, content_type="text/html")
    error = await reason_of(indices)
    said = "an HTTP server that is not Elasticsearch, such as a proxy, answered 502 with HTML"
    assert str(error) == f"cannot create the index {DAY}: {said}"
    assert error.status == 502
    assert impostor.asked == [f"PUT /{DAY}"], "nobody asks a server in trouble what it is"


async def test_proxy_that_takes_no_large_body_keeps_its_status(impostor: Impostor, indices: Indices) -> None:
    impostor.answer = web.Response(status=413, text=BAD_GATEWAY, content_type="text/html")
    assert (await reason_of(indices)).status == 413


async def test_web_server_that_answers_html_to_everything_is_none(impostor: Impostor, indices: Indices) -> None:
    impostor.answer = web.Response(status=200, text="<html><p>It works!</p></html>", content_type="text/html")
    assert "the server is no Elasticsearch" in (await reason_of(indices)).summary
