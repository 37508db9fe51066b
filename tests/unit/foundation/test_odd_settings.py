"""Whatever the environment holds: settings are refused by the names of their variables, or make clients that fail well.

No text that a person or a client could see contains a secret, and nothing ends in a traceback.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from unittest import mock

import pytest
from elasticsearch import AsyncElasticsearch
from hitcounter.elastic import open_client, translate_elasticsearch_errors
from hitcounter.errors import ConfigurationError, IndexUnavailable, StreamUnavailable
from hitcounter.settings import load_settings, variable_name
from hitcounter.stream import open_stream
from hitcounter_api.settings import ApiSettings
from hitcounter_indexer.settings import IndexerSettings
from hitcounter_operator.settings import OperatorSettings
from hypothesis import given
from hypothesis import strategies as st

SERVICES = (ApiSettings, IndexerSettings, OperatorSettings)
MARK = "xq7zk9"
"""Part of every secret here. It occurs in nothing else."""
NOBODY = "127.0.0.1:1"
"""Where nothing listens: what loads is tried there, too."""

odd_texts = st.text(st.sampled_from("@/#?%:;&=[] \t\n\r\\\"'\x7fé€\udcff0aZ.-_,*{}"), max_size=6)
secrets = st.builds("{}{}{}".format, odd_texts, st.just(MARK), odd_texts)
users = st.one_of(st.just(""), st.just("user"), odd_texts)
hosts = st.one_of(
    st.just(NOBODY),
    st.just(NOBODY),
    st.sampled_from(["[::1]:1", "::1:1", "[::1:1", "localhost:1", "h", ":1", "h:x"]),
    odd_texts,
)
options = st.one_of(
    st.just(""),
    st.builds(
        "?{}={}".format,
        st.sampled_from(
            [
                *("db", "client_name", "ssl_cert_reqs", "ssl_ca_certs", "ssl_keyfile", "ssl_check_hostname"),
                *("decode_responses", "socket_timeout", "credential_provider", "connection_class", "password"),
                *("encoding", "host", "retry", "foo", ""),
            ]
        ),
        st.one_of(st.sampled_from(["0", "none", "true", "abc", "/nonexistent"]), odd_texts, secrets),
    ),
)


def addresses(schemes: list[str], ends: list[str]) -> st.SearchStrategy[str]:
    """Addresses that are right, nearly right, or nonsense; each with a secret in its user information, or none."""
    user_information = st.one_of(
        st.just(""),
        st.builds("{}:{}@".format, users, secrets),
        st.builds("{}@".format, secrets),
    )
    ends_of = st.one_of(st.sampled_from(ends), odd_texts)
    return st.one_of(
        st.builds("{}{}{}{}{}".format, st.sampled_from(schemes), user_information, hosts, ends_of, options), secrets
    )


redis_urls = addresses(["redis://", "rediss://", "unix://", "http://", ""], ["", "/", "/0", "/hits", "/0/1"])
elasticsearch_urls = st.lists(
    addresses(["http://", "https://", "ftp://", ""], ["", "/", "/es"]), min_size=1, max_size=2
)
files = st.one_of(st.sampled_from(["/nonexistent.pem", "/dev/zero", "/", __file__, "relative"]), odd_texts, secrets)
numbers = st.one_of(st.sampled_from(["nan", "inf", "-1", "0", "1e99", "5", "0x10", "1" * 5000]), odd_texts)

values = {
    "REDIS__URL": redis_urls,
    "REDIS__USERNAME": users,
    "REDIS__PASSWORD": secrets,
    "REDIS__CA_FILE": files,
    "REDIS__CERT_FILE": files,
    "REDIS__KEY_FILE": files,
    "REDIS__SENTINELS": st.one_of(hosts, redis_urls, st.builds("{},{}".format, hosts, hosts)),
    "REDIS__SENTINEL_USERNAME": users,
    "REDIS__SENTINEL_PASSWORD": secrets,
    "REDIS__TIMEOUT_SECONDS": numbers,
    "REDIS__PREFIX": odd_texts,
    "REDIS__PASSWORD__X": secrets,
    "REDIS": redis_urls,
    "ELASTICSEARCH__URL": elasticsearch_urls.map(",".join),
    "ELASTICSEARCH__USERNAME": st.one_of(users, secrets.map("user:{}".format)),
    "ELASTICSEARCH__PASSWORD": secrets,
    "ELASTICSEARCH__API_KEY": secrets,
    "ELASTICSEARCH__CA_FILE": files,
    "ELASTICSEARCH__CERT_FILE": files,
    "ELASTICSEARCH__KEY_FILE": files,
    "ELASTICSEARCH__INDEX_PREFIX": odd_texts,
    "MANAGEMENT__HOST": st.one_of(hosts, odd_texts),
    "MANAGEMENT__PORT": numbers,
    "HTTP__PORT": numbers,
    "LOG__LEVEL": odd_texts,
}


@st.composite
def environments(draw: st.DrawFn) -> dict[str, str]:
    """Up to six of the variables, with a value each. No variable can contain NUL."""
    names = draw(st.sets(st.sampled_from(list(values)), min_size=1, max_size=6))
    return {f"HITCOUNTER_{name}": draw(values[name]) for name in sorted(names)}


async def use_clients(loaded: ApiSettings) -> list[str]:
    """Make the clients as a service does at its start; where they point at nobody, use them. Returns what they say."""
    said = []
    async with open_stream(loaded.redis) as stream, open_client(loaded.elasticsearch) as client:
        if loaded.redis.sentinels == NOBODY or (
            not loaded.redis.sentinels and NOBODY in loaded.redis.url.get_secret_value()
        ):
            with pytest.raises(StreamUnavailable) as away:
                await stream.monitor.status()
            said.append(str(away.value))
        if all(NOBODY in url for url in loaded.elasticsearch.url.split(",")):
            said.append(await ask(client))
    return said


async def ask(client: AsyncElasticsearch) -> str:
    """Return what is said of an Elasticsearch that is not there."""
    with pytest.raises(IndexUnavailable) as away, translate_elasticsearch_errors("ask"):
        await client.info()
    return str(away.value)


@pytest.mark.parametrize("service", SERVICES)
@given(environment=environments())
def test_odd_settings_are_refused_by_name_or_make_clients_and_never_tell_a_secret(
    service: type[ApiSettings], environment: dict[str, str]
) -> None:
    with mock.patch.dict(os.environ, environment):  # noqa: TID251 - what the settings read
        try:
            loaded = load_settings(service)
        except ConfigurationError as error:
            said = str(error).splitlines()
            assert said
            assert all(line.partition(":")[0] in {*environment, *sections_of(environment)} for line in said), said
        else:
            said = [repr(loaded), *asyncio.run(asyncio.wait_for(use_clients(loaded), 5))]
            hidden = loaded.elasticsearch.url
            said = [text.replace(hidden, "") for text in said]
    assert MARK not in "".join(said)


def sections_of(environment: dict[str, str]) -> set[str]:
    """Return how a field is named whose variable has one part too many."""
    return {name.removesuffix("__X") for name in environment}


def test_file_that_is_a_pipe_does_not_block_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    monkeypatch.setenv(variable_name("redis", "url"), "rediss://127.0.0.1")
    monkeypatch.setenv(variable_name("redis", "ca_file"), str(pipe))
    with pytest.raises(ConfigurationError, match="HITCOUNTER_REDIS__CA_FILE"):
        load_settings(ApiSettings)
