"""The bundled Elasticsearch, run for real with the rendered settings; and what an API key needs to be allowed."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hitcounter.codec import HitBatch
from hitcounter.elastic import Indices, open_client
from hitcounter.errors import IndexUnavailable
from hitcounter.indices import indices_to_prepare
from hitcounter.settings import ElasticsearchSettings, IndexSettings
from hitcounter_api.counts import CountReader
from hitcounter_devstack import (
    ELASTICSEARCH_8,
    ELASTICSEARCH_9,
    ElasticsearchRelease,
    ElasticsearchServer,
    MissingPartError,
)
from hitcounter_devstack.ports import free_port
from hitcounter_devstack.users import give_to, unprivileged_user
from hitcounter_indexer.documents import build_actions, build_documents
from hitcounter_indexer.outcomes import ItemOutcome
from hitcounter_indexer.sink import ElasticsearchSink
from pydantic import SecretStr

from tests.chart.rendering import ROOT, Case, render

PASSWORD = "a password"
PASSWORD_HASH = "$2a$10$P5AoA8Z9lzw0mxdV0x8mPeeEtLHRCPGuC.U2pySY37H0kdc9cx4CG"
VALUES = {"elasticsearch": {"security": {"enabled": True, "password": PASSWORD}}}
DESCRIPTORS = json.loads((ROOT / "k8s/samples/elasticsearch-api-keys.json").read_text())
OF_THE_MACHINE = {"network.host", "readiness.port", "node.name"}
"""Rendered settings that fit a pod and not a machine that runs other tests, too."""


class BundledElasticsearch(ElasticsearchServer):
    """The server that the chart's own settings make, its places on this machine aside."""

    readiness_port = 0

    def _write_configuration(self, home: Path) -> None:
        super()._write_configuration(home)
        config = self.data_dir / "config"
        container = render(Case("", VALUES)).pod("elasticsearch").containers[0]
        rendered = {item["name"]: item.get("value") for item in container["env"] if "." in item["name"]}
        kept = [
            line
            for line in (config / "elasticsearch.yml").read_text().splitlines()
            if line.split(":")[0] not in rendered
        ]
        self.readiness_port = free_port()
        kept += [f"{name}: {json.dumps(value)}" for name, value in rendered.items() if name not in OF_THE_MACHINE]
        kept += [
            "network.host: 127.0.0.1",
            f"readiness.port: {self.readiness_port}",
            f"node.name: {container['name']}-0",
        ]
        (config / "elasticsearch.yml").write_text("\n".join(kept) + "\n")
        (config / "roles.yml").write_text(yaml.safe_dump(DESCRIPTORS))
        (config / "users").write_text("".join(f"{name}:{PASSWORD_HASH}\n" for name in ["people", *DESCRIPTORS]))
        roles = {"superuser": "people"} | {name: name for name in DESCRIPTORS}
        (config / "users_roles").write_text("".join(f"{role}:{name}\n" for role, name in roles.items()))
        give_to(unprivileged_user(), self.data_dir)

    def is_ready(self) -> bool:
        """As the probe of the chart asks: without a password."""
        with socket.socket() as connection:
            return connection.connect_ex(("127.0.0.1", self.readiness_port)) == 0


def settings(server: BundledElasticsearch, **way_in: Any) -> ElasticsearchSettings:
    return ElasticsearchSettings(url=server.url, **way_in)


async def index_one(settings: ElasticsearchSettings, id_: str) -> None:
    """Do everything that an indexer or the operator, which signs in as they do, does to Elasticsearch."""
    now_ms = time.time_ns() // 1_000_000
    async with open_client(settings) as client:
        indices = Indices(client, settings.index_prefix, IndexSettings(replicas=0))
        await indices.ensure_template()
        await indices.ensure(indices_to_prepare(settings.index_prefix, now_ms))
        documents = build_documents(HitBatch(id_.encode().ljust(12), 1, [id_], [now_ms]), settings.index_prefix)
        (result,) = await ElasticsearchSink(client, indices).write(build_actions(documents))
        assert result.outcome is ItemOutcome.INDEXED
        await indices.flush({document.index_name for document in documents})
        await indices.refresh(indices_to_prepare(settings.index_prefix, now_ms))
        assert (await indices.repair()).indices
        expired = indices_to_prepare(settings.index_prefix, now_ms - 30 * 86_400_000)
        await indices.ensure(expired)
        assert set((await indices.drop_expired(now_ms)).dropped) == set(expired)


async def read_count(settings: ElasticsearchSettings, id_: str) -> object:
    async with open_client(settings) as client:
        reader = CountReader(client, settings.index_prefix, timeout_seconds=10)
        return await reader.read(id_, time.time_ns() // 1_000_000)


def as_part(server: BundledElasticsearch, name: str) -> ElasticsearchSettings:
    """Sign in with the privileges of an API key; as a user, since this distribution cannot keep keys."""
    return settings(server, username=name, password=SecretStr(PASSWORD))


@pytest.mark.parametrize("release", [ELASTICSEARCH_8, ELASTICSEARCH_9], ids=lambda release: release.version)
async def test_bundled_elasticsearch_allows_each_part_what_it_does_and_strangers_nothing(
    tmp_path: Path, release: ElasticsearchRelease
) -> None:
    try:
        server = BundledElasticsearch(tmp_path, release=release).start()
    except MissingPartError as error:
        pytest.fail(str(error), pytrace=False)
    with server:
        with pytest.raises(IndexUnavailable, match="401"):
            await read_count(settings(server), "a")
        with pytest.raises(IndexUnavailable, match="403"):
            await index_one(as_part(server, "hitcounter-api"), "by the api")
        for name, reader in [("people", "people"), ("hitcounter-indexer", "hitcounter-api")]:
            await index_one(as_part(server, name), name)
            assert "1" in str(await read_count(as_part(server, reader), name))
