"""Settings. A service's __main__ reads them from the environment once and passes them on as constructor arguments.

Names are HITCOUNTER_<SECTION>__<FIELD>. The description of each field gives the unit, the reason for the default and
the symptom of a wrong value; docs/configuration.md is generated from the descriptions.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, NoReturn, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from hitcounter.addresses import (
    Address,
    find_option_fault,
    find_tls_fault,
    read_address,
    read_host,
    read_host_and_port,
)
from hitcounter.errors import ConfigurationError

ENV_PREFIX = "HITCOUNTER_"
EXIT_CONFIGURATION = 2

_REFUSED: Final = "refused"
"""The type of the errors raised here. Their messages never contain the value: it may contain a secret."""

_REDIS_OPTIONS: Final = {
    "db": r"[0-9]{1,5}",
    "client_name": r"[!-~]{1,64}",
    "ssl_ca_certs": r".+",
    "ssl_certfile": r".+",
    "ssl_keyfile": r".+",
    "ssl_cert_reqs": r"required|optional|none",
    "ssl_check_hostname": r"(?i:true|false)",
}
"""The options allowed after the ? of the Redis URL. redis-py's other options are our own settings, or break the client.
"""

_TLS_OPTIONS: Final = {"ca_file": "ssl_ca_certs", "cert_file": "ssl_certfile", "key_file": "ssl_keyfile"}


def _refuse(message: str, field: str = "") -> NoReturn:
    """Reject a value. A check of a whole section passes the name of the field."""
    raise PydanticCustomError(_REFUSED, "{message}", {"message": message, "field": field})


def _checked(read: Callable[[str], Any], text: str, field: str = "") -> Any:
    try:
        return read(text)
    except ValueError as error:
        _refuse(str(error), field)


def _read_redis_url(text: str) -> Address:
    address = read_address(text, ("redis", "rediss"))
    if not re.fullmatch(r"/?|/[0-9]{1,5}", address.path):
        raise ValueError("must end with the number of a database, such as /0")
    if "db" in address.options and address.path not in ("", "/"):
        raise ValueError("names a database twice")
    if fault := find_option_fault(address.options, _REDIS_OPTIONS):
        raise ValueError(fault)
    if address.scheme == "redis" and any(name.startswith("ssl_") for name in address.options):
        raise ValueError("has TLS options, which are for rediss:// only")
    return address


def _read_elasticsearch_url(text: str) -> Address:
    address = read_address(text, ("http", "https"))
    if address.scheme == "http" and address.port is None:
        raise ValueError("must have a port, such as http://elasticsearch:9200; several without spaces")
    if address.options:
        raise ValueError("must not have options")
    if address.username is not None and not (address.username and address.password):
        raise ValueError("has a user name without a password")
    return address


Port = Annotated[int, Field(ge=1, le=65535)]
Host = Annotated[str, AfterValidator(lambda host: _checked(read_host, host))]
"""A host to listen on, as an IP address or a name."""


class Section(BaseModel):
    """A group of settings. Unknown names in it are errors: a typo must not become a default."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _read_text(cls, value: object) -> object:
        """Remove the newline that `echo` leaves at the end of a Secret or a file. No value ends with one."""
        if not isinstance(value, str):
            return value
        if any("\ud800" <= character <= "\udfff" for character in value):  # how Python shows other bytes
            _refuse("must be UTF-8")
        if value.strip("\r\n") == "" != value:
            _refuse("contains nothing but a line break")
        return value.rstrip("\r\n")


def _check_tls(settings: BaseModel, in_url: Mapping[str, str | None], *, is_tls: bool, scheme: str) -> None:
    """Reject TLS settings for a scheme without TLS, and files that cannot be used."""
    own = {field: getattr(settings, field) for field in _TLS_OPTIONS}
    if not is_tls:
        for field, value in own.items():
            if value is not None:
                _refuse(f"is for {scheme} only", field)
        return
    fault = find_tls_fault(**{field: own[field] or in_url.get(field) for field in _TLS_OPTIONS})
    if fault is not None:
        field, message = fault
        is_own = own[field] is not None or own["cert_file"] is not None
        _refuse(message if is_own else f"names a {field} that is wrong: {message}", field if is_own else "url")


class RedisSettings(Section):
    """Connection to the Redis that holds the stream."""

    url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="Address of Redis 7.0 or newer: redis://, or rediss:// for TLS. Percent-encode @ / # ? and % in a "
        f"user name or password. These options may follow a ?: {', '.join(_REDIS_OPTIONS)}.",
    )
    username: str | None = Field(None, description="User name. Overrides the one in the URL.")
    password: SecretStr | None = Field(None, description="Password. Overrides the one in the URL.")
    ca_file: str | None = Field(
        None, description="Path of a PEM file with the CA certificate that signed the server's. For rediss:// only."
    )
    cert_file: str | None = Field(
        None,
        description="Path of a PEM file with the client certificate. For a rediss:// server that asks for one (Redis "
        "does, unless tls-auth-clients is no). Read again for every new connection.",
    )
    key_file: str | None = Field(
        None,
        description="Path of a PEM file with the private key of cert_file, not encrypted. Not needed if cert_file "
        "contains the key.",
    )
    sentinels: str | None = Field(
        None,
        description="Redis Sentinels as host:port, separated by commas; put an IPv6 address in brackets. They report "
        "which server is the primary, so only scheme, user, password and database of the URL are used.",
    )
    sentinel_master: str = Field("mymaster", min_length=1, description="The name that the Sentinels give the primary.")
    sentinel_username: str | None = Field(None, description="User name for the Sentinels themselves.")
    sentinel_password: SecretStr | None = Field(None, description="Password for the Sentinels themselves.")
    prefix: str = Field(
        "hitcounter",
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="First part of every key; braces are added around it. Installations that share a Redis need "
        "different prefixes.",
    )
    trust_memory_policy: bool = Field(
        False,
        description="Assume noeviction if Redis does not show its maxmemory-policy, as with some managed services. "
        "Off: the API then refuses all hits, because a Redis that evicts keys loses hits without an error. A policy "
        "that Redis does show is always checked.",
    )
    connect_timeout_seconds: float = Field(
        0.5,
        gt=0,
        le=30,
        description="Time limit for opening a connection. Too high: clients wait longer for the 503 while Redis is "
        "down.",
    )
    timeout_seconds: float = Field(
        5.0,
        gt=1.5,
        le=120,
        description="Time limit for one command. Adding hits has its own limit (HITCOUNTER_INTAKE__BUDGET_SECONDS). "
        "Must be longer than HITCOUNTER_INDEXER__BLOCK_MS. Too low: indexers repeat work when Redis is slow.",
    )

    @property
    def sentinel_addresses(self) -> list[tuple[str, int]]:
        """The hosts and ports of the Sentinels."""
        return [read_host_and_port(address) for address in self.sentinels.split(",")] if self.sentinels else []

    @model_validator(mode="after")
    def _check(self) -> Self:
        url: Address = _checked(_read_redis_url, self.url.get_secret_value(), "url")
        has_password = self.password is not None
        if url.username and not url.password and not has_password:
            _refuse("has a user name without a password", "url")
        if self.username is not None and not has_password and not url.password:
            _refuse(f"needs {variable_name('redis', 'password')}", "username")
        if self.sentinel_username is not None and self.sentinel_password is None:
            _refuse(f"needs {variable_name('redis', 'sentinel_password')}", "sentinel_username")
        _checked(lambda _: self.sentinel_addresses, "", "sentinels")
        options = {field: url.options.get(option) for field, option in _TLS_OPTIONS.items()}
        _check_tls(self, options, is_tls=url.scheme == "rediss", scheme="rediss://")
        return self


class ElasticsearchSettings(Section):
    """Connection to the Elasticsearch that holds the indices."""

    url: str = Field(
        "http://127.0.0.1:9200",
        description="One or more addresses of Elasticsearch 8.19 or 9, separated by commas: all http:// or all "
        "https://, each with its port (https:// without a port uses 443).",
    )
    index_prefix: str = Field(
        "hits",
        pattern=r"^[a-z][a-z0-9_-]{0,63}$",
        description="First part of every index name, and the alias of all indices. Installations that share an "
        "Elasticsearch need different prefixes.",
    )
    username: str | None = Field(None, description="User name for basic authentication. Needs password.")
    password: SecretStr | None = Field(None, description="Password for basic authentication. Needs username.")
    api_key: SecretStr | None = Field(
        None, description="Encoded API key. If it is set, username and password are not used."
    )
    ca_file: str | None = Field(
        None, description="Path of a PEM file with the CA certificate that signed the server's. For https:// only."
    )
    cert_file: str | None = Field(
        None, description="Path of a PEM file with the client certificate. For an https:// server that asks for one."
    )
    key_file: str | None = Field(
        None,
        description="Path of a PEM file with the private key of cert_file, not encrypted. Not needed if cert_file "
        "contains the key.",
    )
    timeout_seconds: float = Field(
        30.0,
        gt=0,
        le=600,
        description="How long an indexer waits for one response. Too low: a slow bulk is sent again while the first "
        "one still runs. Nothing is counted twice, but the slow server gets more work.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        addresses: list[Address] = [_checked(_read_elasticsearch_url, text, "url") for text in self.url.split(",")]
        schemes = {address.scheme for address in addresses}
        if len(schemes) > 1:
            _refuse("must be all http:// or all https://", "url")
        if len({(address.host, address.port, address.path) for address in addresses}) < len(addresses):
            _refuse("has the same address twice", "url")
        for given, other in (("username", "password"), ("password", "username")):
            if self.api_key is None and getattr(self, given) is not None and getattr(self, other) is None:
                _refuse(f"needs {variable_name('elasticsearch', other)}", given)
        if ":" in (self.username or ""):  # RFC 7617, section 2: the first colon would end the user name
            _refuse("must not contain a colon", "username")
        if self.api_key is not None and not re.fullmatch(r"[!-~]+", self.api_key.get_secret_value()):
            _refuse("must be the encoded form of an API key: ASCII without spaces", "api_key")
        _check_tls(self, {}, is_tls=schemes == {"https"}, scheme="https://")
        return self


class IndexSettings(Section):
    """How the index of a day is created, and how long it is kept."""

    shards: int = Field(
        1,
        ge=1,
        le=100,
        description="Primary shards of each day's index. One shard is enough for about 200 million documents.",
    )
    replicas: int = Field(
        1,
        ge=0,
        le=5,
        description="Replicas of each shard. On a single node set 0; losing its disk then loses the counts.",
    )
    retention_days: int = Field(
        4,
        ge=4,
        le=3650,
        description="Days to keep, today included; an indexer deletes the indices of earlier days. At least 4, because "
        "the longest window (3 days) touches 4 calendar days.",
    )


class LogSettings(Section):
    """What is logged, and in which format."""

    level: str = Field("info", pattern="^(debug|info|warning|error)$", description="Minimum level that is logged.")
    format: str = Field(
        "auto",
        pattern="^(auto|json|text)$",
        description="json writes one JSON object per line. auto writes text on a terminal and JSON elsewhere.",
    )


class TracingSettings(Section):
    """OpenTelemetry tracing: what is traced, and where spans are sent ([how to read traces](traces.md))."""

    enabled: bool = Field(
        False,
        description="Enable tracing. Off: the tracing code is not loaded. On: each hit costs slightly more, and a "
        "traced hit several times as much. Needs the extra `tracing`, which the images include.",
    )
    endpoint: str = Field(
        "http://127.0.0.1:4318",
        description="Address of a collector that accepts OTLP over HTTP, without /v1/traces. Spans that it does not "
        "accept are dropped. Hits never wait for it.",
    )
    sample_ratio: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Fraction of requests that the API traces if they bring no traceparent. A traceparent decides for "
        "itself by its sampled flag. The indexer traces what the API traced. Too high: fewer hits per second.",
    )

    @field_validator("endpoint")
    @classmethod
    def _check_endpoint(cls, endpoint: str) -> str:
        address: Address = _checked(lambda text: read_address(text, ("http", "https")), endpoint)
        if address.options:
            _refuse("must not have options")
        return endpoint


class SettingsBase(BaseSettings):
    """The settings that all services share."""

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
        # Not chained: pydantic's own text contains the values.
        lines = [_describe(kind, item) for item in error.errors()]
    raise ConfigurationError("\n".join(lines))


def load_settings_or_exit(kind: type[_S]) -> _S:
    """Read the settings, or print what is wrong with them and exit with status 2."""
    try:
        return load_settings(kind)
    except ConfigurationError as error:
        exit_for(error)


def exit_for(error: ConfigurationError) -> NoReturn:
    """Print what is wrong with the settings, and exit with status 2."""
    sys.stderr.write(f"{error}\n")
    raise SystemExit(EXIT_CONFIGURATION) from error


def variable_name(*path: str) -> str:
    """Return the environment variable that sets the field at the path: ("redis", "url") is HITCOUNTER_REDIS__URL."""
    return ENV_PREFIX + "__".join(path).upper()


def _describe(kind: type[SettingsBase], item: ErrorDetails) -> str:
    path = [str(part) for part in item["loc"]]
    if item["type"] == _REFUSED:
        if field := item["ctx"]["field"]:
            path.append(field)
        return f"{variable_name(*path)}: {item['msg']}"
    name = variable_name(*path)
    if item["type"] == "extra_forbidden":
        return f"{name}: there is no such setting"
    if item["type"] == "model_type":
        return f"{name}: is a group of settings, {name}__…, and has no value of its own"
    shown = f" (it is {item['input']!r})" if _may_be_shown(kind, path) and isinstance(item["input"], str) else ""
    return f"{name}: {item['msg'][0].lower()}{item['msg'][1:]}{shown}"


_TEXTS: Final = (str, str | None)


def _may_be_shown(kind: type[SettingsBase], path: list[str]) -> bool:
    """Return whether a value is certainly not a secret: a number, one of a few words, or text of a narrow pattern."""
    section = kind.model_fields[path[0]].annotation if path and path[0] in kind.model_fields else None
    if not isinstance(section, type) or not issubclass(section, Section) or path[-1] not in section.model_fields:
        return False
    field = section.model_fields[path[-1]]
    return "SecretStr" not in repr(field.annotation) and (bool(field.metadata) or field.annotation not in _TEXTS)
