"""Settings: read from the environment once, in a service's __main__, and handed on as constructor arguments.

Names are HITCOUNTER_<SECTION>__<FIELD>. Each field says its unit, why its default is what it is, and how a wrong
value shows; docs/configuration.md is made from that.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_core import ErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from hitcounter.errors import ConfigurationError

ENV_PREFIX = "HITCOUNTER_"
EXIT_CONFIGURATION = 2

_BAD_ADDRESS = "bad_address"

Port = Annotated[int, Field(ge=1, le=65535)]


class Section(BaseModel):
    """A group of settings. Unknown names in it are errors: a typo must not become a default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RedisSettings(Section):
    """Where the stream is."""

    url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="Redis 7.0 or newer, as redis:// or rediss:// (TLS).",
    )
    username: str | None = Field(None, description="User, in place of the one in the URL.")
    password: SecretStr | None = Field(None, description="Password, in place of the one in the URL.")
    ca_file: str | None = Field(
        None, description="A PEM file with the authority that signed the server's certificate, for rediss://."
    )
    sentinels: str | None = Field(
        None,
        pattern=r"^[^\s,:]+:[0-9]{1,5}(,[^\s,:]+:[0-9]{1,5})*$",
        description="Sentinels as host:port, separated by commas. They know the server; of the URL only scheme, user, "
        "password and database then count.",
    )
    sentinel_master: str = Field("mymaster", min_length=1, description="The sentinels' name for the server.")
    sentinel_username: str | None = Field(None, description="User for the sentinels themselves.")
    sentinel_password: SecretStr | None = Field(None, description="Password for the sentinels themselves.")
    prefix: str = Field(
        "hitcounter",
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="First part of every key, set in braces by us. Installations that share a Redis differ here.",
    )
    trust_memory_policy: bool = Field(
        False,
        description="Take a Redis that does not show its maxmemory-policy, as some providers' do not, to have "
        "noeviction. Off: Track refuses all hits there, for one that evicts loses hits without a word. A policy that "
        "is shown is checked in any case.",
    )
    connect_timeout_seconds: float = Field(
        0.5,
        gt=0,
        le=30,
        description="How long a connection may take to open. Too high: Track answers its 503 late when Redis is away.",
    )
    timeout_seconds: float = Field(
        5.0,
        gt=1.5,
        le=120,
        description="How long a command may take, Track's excepted (HITCOUNTER_INTAKE__BUDGET_SECONDS). Must be longer "
        "than an indexer's wait for entries. Too low: indexers repeat work when Redis is slow.",
    )

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: SecretStr) -> SecretStr:
        if not _is_address(url.get_secret_value(), {"redis": 6379, "rediss": 6379}):
            raise PydanticCustomError(_BAD_ADDRESS, "must be an address such as redis://127.0.0.1:6379/0 or rediss://…")
        return url


class ElasticsearchSettings(Section):
    """Where the indices are, and how to get in."""

    url: str = Field(
        "http://127.0.0.1:9200",
        description="One or more addresses of an Elasticsearch 8.19 or 9, separated by commas.",
    )
    index_prefix: str = Field(
        "hits",
        pattern=r"^[a-z][a-z0-9_-]{0,63}$",
        description="First part of every index name, and the alias of all. Installations that share an Elasticsearch "
        "differ here.",
    )
    username: str | None = Field(None, description="For basic authentication, with password.")
    password: SecretStr | None = Field(None, description="For basic authentication, with username.")
    api_key: SecretStr | None = Field(None, description="An encoded API key; used in place of username and password.")
    ca_file: str | None = Field(None, description="A PEM file with the authority that signed the server's certificate.")
    timeout_seconds: float = Field(
        30.0,
        gt=0,
        le=600,
        description="How long an indexer waits for one answer. Too low: a slow bulk is sent again while it still runs, "
        "which counts nothing twice but costs the slow server more.",
    )

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        if not all(_is_address(address, {"http": None, "https": 443}) for address in url.split(",")):
            raise PydanticCustomError(_BAD_ADDRESS, "must be http://host:port or https://host, several without spaces")
        return url


class IndexSettings(Section):
    """How a day's index is made, and when it goes."""

    shards: int = Field(1, ge=1, le=100, description="Primary shards of a day. One holds about 200 million documents.")
    replicas: int = Field(
        1, ge=0, le=5, description="Copies of each shard. 0 on a single node: a lost disk then loses the counts."
    )
    retention_days: int = Field(
        4,
        ge=4,
        le=3650,
        description="Whole days kept, today included. Never under 4: the longest window, 3 days, touches 4 of them.",
    )


class LogSettings(Section):
    """What is logged, and how."""

    level: str = Field("info", pattern="^(debug|info|warning|error)$", description="Least level that is logged.")
    format: str = Field(
        "auto", pattern="^(auto|json|text)$", description="One JSON object a line, or text; auto: text on a terminal."
    )


class TracingSettings(Section):
    """Traces (OpenTelemetry): which, and where they go ([how to read them](traces.md))."""

    enabled: bool = Field(
        False,
        description="Trace. Off: what traces is not even loaded. On: every hit pays a little, and a traced one several "
        "times what it costs otherwise; see the sample ratio. Needs the extra `tracing`, which the images have.",
    )
    endpoint: str = Field(
        "http://127.0.0.1:4318",
        description="Address of a collector that takes OTLP over HTTP, without /v1/traces. Spans that it does not take "
        "are dropped; hits never wait for it.",
    )
    sample_ratio: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Share of the requests without a traceparent of their own that the API traces; with one, they are "
        "where it says so. The indexer traces what the API has. Too high: fewer hits a second.",
    )

    @field_validator("endpoint")
    @classmethod
    def _check_endpoint(cls, endpoint: str) -> str:
        if not _is_address(endpoint, {"http": 80, "https": 443}):
            raise PydanticCustomError(_BAD_ADDRESS, "must be an address such as http://collector:4318")
        return endpoint


class SettingsBase(BaseSettings):
    """What the settings of every service have in common."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
        enable_decoding=False,  # a variable holds one field, never a section as JSON
        extra="ignore",
        frozen=True,
    )

    redis: RedisSettings = RedisSettings()
    log: LogSettings = LogSettings()


_S = TypeVar("_S", bound=SettingsBase)


def load_settings(kind: type[_S]) -> _S:
    """Read the settings from the environment.

    Raises:
        ConfigurationError: lists every wrong setting, one line each, by the name of its variable.
    """
    try:
        return kind()
    except ValidationError as error:
        raise ConfigurationError("\n".join(_describe(item) for item in error.errors())) from error


def load_settings_or_exit(kind: type[_S]) -> _S:
    """Read the settings, or print what is wrong with them and exit with status 2."""
    try:
        return load_settings(kind)
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(EXIT_CONFIGURATION) from error


def variable_name(*path: str) -> str:
    """Return the environment variable that sets the field at the path: ("redis", "url") is HITCOUNTER_REDIS__URL."""
    return ENV_PREFIX + "__".join(path).upper()


def _describe(item: ErrorDetails) -> str:
    name = variable_name(*(str(part) for part in item["loc"]))
    if item["type"] == "extra_forbidden":
        return f"{name}: there is no such setting"
    if item["type"] == "model_type":
        return f"{name}: is a group of settings, {name}__…, and has no value of its own"
    if item["type"] == _BAD_ADDRESS:  # the address may hold a password
        return f"{name}: {item['msg']}"
    return f"{name}: {item['msg'][0].lower()}{item['msg'][1:]} (it is {item['input']!r})"


def _is_address(address: str, default_ports: Mapping[str, int | None]) -> bool:
    """Tell whether the address has one of the schemes, a host, and a port where its scheme has none by default."""
    try:
        parts = urlsplit(address)
        port = default_ports[parts.scheme] if parts.port is None else parts.port
    except (KeyError, ValueError):
        return False
    return parts.scheme in default_ports and bool(parts.hostname and port) and " " not in address
