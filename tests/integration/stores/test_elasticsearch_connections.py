"""What the settings bring to the wire of an Elasticsearch: certificates, and who we are. The TLS is real.

The Elasticsearch of the tests has no security to ask for either.
"""

import base64
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from elasticsearch import AsyncElasticsearch
from hitcounter.elastic import open_client, translate_elasticsearch_errors
from hitcounter.errors import IndexUnavailable
from hitcounter.settings import ElasticsearchSettings
from hitcounter_devstack import LOCALHOST, free_port
from pydantic import SecretStr

from tests.integration.stores.certificates import make_certificates


@contextlib.asynccontextmanager
async def secured_server(folder: Path) -> AsyncIterator[tuple[str, list[str]]]:
    """Ask clients for a certificate; yields the URL, and the Authorization headers that come."""
    make_certificates(folder)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(folder / "ca.crt"))
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    context.verify_mode = ssl.CERT_REQUIRED
    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization", ""))
        return web.json_response({}, headers={"X-Elastic-Product": "Elasticsearch"})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, LOCALHOST, port, ssl_context=context).start()
    try:
        yield f"https://{LOCALHOST}:{port}", seen
    finally:
        await runner.cleanup()


async def ask(client: AsyncElasticsearch) -> None:
    with translate_elasticsearch_errors("ask"):
        await client.info()


async def test_client_certificate_key_and_password_reach_the_server(tmp_path: Path) -> None:
    async with secured_server(tmp_path) as (url, seen):
        ca_file, cert_file, key_file = (str(tmp_path / name) for name in ("ca.crt", "server.crt", "server.key"))
        by_password = ElasticsearchSettings(
            url=url,
            ca_file=ca_file,
            cert_file=cert_file,
            key_file=key_file,
            username="elastic",
            password=SecretStr("pässwört€"),
        )
        async with open_client(by_password) as client:
            await ask(client)
        by_key = ElasticsearchSettings.model_validate(
            {"url": url, "ca_file": ca_file, "cert_file": cert_file, "key_file": key_file, "api_key": "abc123==\n"}
        )
        async with open_client(by_key) as client:
            await ask(client)
        without = ElasticsearchSettings(url=url, ca_file=ca_file)
        async with open_client(without) as client:
            with pytest.raises(IndexUnavailable):
                await ask(client)
    assert seen == [f"Basic {base64.b64encode('elastic:pässwört€'.encode()).decode()}", "ApiKey abc123=="]
