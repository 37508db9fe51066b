"""Settings come from the environment, once; what is wrong with them is said all at once, in words."""

from __future__ import annotations

import base64

import pytest
from hitcounter.elastic import open_client
from hitcounter.errors import ConfigurationError
from hitcounter.health import ManagementSettings
from hitcounter.settings import (
    ElasticsearchSettings,
    IndexSettings,
    RedisSettings,
    SettingsBase,
    TracingSettings,
    load_settings,
    load_settings_or_exit,
    variable_name,
)
from hitcounter.stream import open_stream
from pydantic import SecretStr


class ExampleSettings(SettingsBase):
    """What a service would declare."""

    elasticsearch: ElasticsearchSettings = ElasticsearchSettings()
    index: IndexSettings = IndexSettings()
    tracing: TracingSettings = TracingSettings()


async def build_clients(settings: ExampleSettings) -> None:
    """Make the objects that a service makes of these settings at its start."""
    async with open_stream(settings.redis), open_client(settings.elasticsearch):
        pass


def complaints(monkeypatch: pytest.MonkeyPatch, **variables: str) -> list[str]:
    """Return the lines of what is said about these HITCOUNTER_… variables."""
    for name, value in variables.items():
        monkeypatch.setenv(f"HITCOUNTER_{name}", value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings(ExampleSettings)
    return str(caught.value).splitlines()


def test_defaults_are_those_of_a_developers_machine() -> None:
    settings = load_settings(ExampleSettings)
    assert settings.redis.url.get_secret_value() == "redis://127.0.0.1:6379/0"
    assert settings.redis.prefix == "hitcounter"
    assert settings.elasticsearch.url == "http://127.0.0.1:9200"
    assert settings.elasticsearch.index_prefix == "hits"
    assert settings.index.retention_days == 4


def test_variable_of_a_field_is_its_section_and_name_behind_one_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    assert variable_name("redis", "url") == "HITCOUNTER_REDIS__URL"
    monkeypatch.setenv("HITCOUNTER_REDIS__URL", "rediss://user:secret@redis.example:6380/2")
    monkeypatch.setenv("HITCOUNTER_ELASTICSEARCH__URL", "https://one.example:9200,https://two.example:9200")
    monkeypatch.setenv("HITCOUNTER_INDEX__SHARDS", "3")
    settings = load_settings(ExampleSettings)
    assert settings.redis.url == SecretStr("rediss://user:secret@redis.example:6380/2")
    assert settings.elasticsearch.url == "https://one.example:9200,https://two.example:9200"
    assert settings.index.shards == 3


def test_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HITCOUNTER_REDIS__PREFIX", "")
    assert load_settings(ExampleSettings).redis.prefix == "hitcounter"


def test_variables_of_other_services_and_of_kubernetes_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP__PORT", "PORT", "SERVICE_HOST", "REDIS_PORT", "REDIS_SERVICE_PORT"):
        monkeypatch.setenv(f"HITCOUNTER_{name}", "tcp://10.0.0.1:6379")
    assert load_settings(ExampleSettings).redis == RedisSettings()


def test_all_that_is_wrong_is_said_at_once_one_line_each_by_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = complaints(
        monkeypatch,
        REDIS__PREFIX="{braces}",
        REDIS__CONNECT_TIMEOUT_SECONDS="soon",
        INDEX__SHARDS="0",
        INDEX__RETENTION_DAYS="3",
        LOG__LEVEL="loud",
    )
    assert sorted(line.partition(":")[0] for line in lines) == [
        "HITCOUNTER_INDEX__RETENTION_DAYS",
        "HITCOUNTER_INDEX__SHARDS",
        "HITCOUNTER_LOG__LEVEL",
        "HITCOUNTER_REDIS__CONNECT_TIMEOUT_SECONDS",
        "HITCOUNTER_REDIS__PREFIX",
    ]


def test_line_tells_the_limit_and_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = complaints(monkeypatch, INDEX__RETENTION_DAYS="3")
    assert line == "HITCOUNTER_INDEX__RETENTION_DAYS: input should be greater than or equal to 4 (it is '3')"


def test_misspelt_name_in_a_section_is_an_error_and_never_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert complaints(monkeypatch, REDIS__PREFX="mine") == ["HITCOUNTER_REDIS__PREFX: there is no such setting"]


def test_text_where_a_section_stands_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = complaints(monkeypatch, REDIS="redis://127.0.0.1:6379")
    assert line.startswith("HITCOUNTER_REDIS: ")


@pytest.mark.parametrize(
    "url", ["127.0.0.1:6379", "localhost", "http://127.0.0.1:6379", "redis://", "redis://h:port", "redis://h:99999"]
)
def test_address_that_is_none_of_a_redis_is_refused_without_telling_it(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    (line,) = complaints(monkeypatch, REDIS__URL=url)
    assert line.startswith("HITCOUNTER_REDIS__URL: ")
    assert url not in line


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:9200",
        "http://127.0.0.1",
        "ftp://127.0.0.1:9200",
        "http://h:port",
        "http://one:9200, http://two:9200",
        "http://one:9200,",
    ],
)
def test_address_that_is_none_of_an_elasticsearch_is_refused_without_telling_it(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    (line,) = complaints(monkeypatch, ELASTICSEARCH__URL=url)
    assert line.startswith("HITCOUNTER_ELASTICSEARCH__URL: ")
    assert url not in line


@pytest.mark.parametrize("url", ["collector:4318", "grpc://collector:4317", "http://"])
def test_address_that_is_none_of_a_collector_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    (line,) = complaints(monkeypatch, TRACING__ENDPOINT=url)
    assert line.startswith("HITCOUNTER_TRACING__ENDPOINT: must ")


def test_password_in_a_refused_address_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = complaints(
        monkeypatch, REDIS__URL="reds://user:s3cret@h:6379", ELASTICSEARCH__URL="htp://user:s3cret@h:9200"
    )
    assert len(lines) == 2
    assert "s3cret" not in "".join(lines)


def test_secrets_do_not_show_in_the_settings_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HITCOUNTER_REDIS__URL", "redis://user:s3cret@h:6379/0")
    monkeypatch.setenv("HITCOUNTER_ELASTICSEARCH__PASSWORD", "s3cret")
    monkeypatch.setenv("HITCOUNTER_ELASTICSEARCH__API_KEY", "s3cret")
    assert "s3cret" not in repr(load_settings(ExampleSettings))


SECRET = "s3cret"


@pytest.mark.parametrize(
    "url",
    [
        "redis://h:6379/hits",
        "redis://h:6379/0/1",
        "redis://h:6379/1?db=2",
        "redis://h:6379/0?foo=bar",
        "redis://h:6379/0?db=",
        "redis://h:6379/0?db=1&db=2",
        "redis://h:6379/0?decode_responses=true",
        "redis://h:6379/0?socket_timeout=abc",
        "redis://h:6379/0?ssl_cert_reqs=none",
        "rediss://h:6379/0?ssl_cert_reqs=maybe",
        "rediss://h:6379/0?ssl_ca_certs=/nonexistent.pem",
        "redis://h:6379/0#fragment",
        "redis://h:0/0",
        "redis://h:port@:6379/0",
        "redis://::1:6379/0",
        "redis://[::1:6379/0",
        "redis://[::1]6379/0",
        "redis://[host]:6379/0",
        "redis://a..b:6379/0",
        f"redis://{'a' * 64}:6379/0",
        "redis://user@h:6379/0",
        f"redis://:{SECRET}@x@h:6379/0",
        f"redis://:{SECRET}/w#rd@h:6379/0",
        f"redis://:12/{SECRET}@h:6379/0",
        f"redis://:12?{SECRET}@h:6379/0",
        f"redis://:12#{SECRET}@h:6379/0",
        f"redis://u:12/3@h:6379/{SECRET}",
        f"redis://:%ff{SECRET}@h:6379/0",
        f"redis://:{SECRET} @h:6379/0",
        f"redis://:{SECRET}\tx@h:6379/0",
        "unix:///tmp/redis.sock",
    ],
)
def test_redis_address_that_could_be_read_in_another_way_or_not_at_all_is_refused(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    (line,) = complaints(monkeypatch, REDIS__URL=url)
    assert line.startswith("HITCOUNTER_REDIS__URL: ")
    assert SECRET not in line


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://h/",
        "redis://[::1]:6379/0",
        "redis://h_1.example.:6379?db=3",
        "redis://:p%40ss%2Fw%23rd%3F%25%3A%C3%A9@h:6379/0",
        "redis://:pässwort@h:6379/0",
        "redis://user:pass@h:6379/0?client_name=api",
        "rediss://user:pass@h:6380/15?ssl_cert_reqs=none&ssl_check_hostname=false",
    ],
)
async def test_redis_address_that_can_be_read_in_one_way_makes_a_client(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("HITCOUNTER_REDIS__URL", url)
    await build_clients(load_settings(ExampleSettings))


@pytest.mark.parametrize(
    ("variable", "value", "others"),
    [
        ("REDIS__USERNAME", "api", {}),
        ("REDIS__SENTINEL_USERNAME", "api", {}),
        ("REDIS__SENTINELS", "h", {}),
        ("REDIS__SENTINELS", "fd00::1:26379", {}),
        ("REDIS__SENTINELS", "h:26379,", {}),
        ("REDIS__SENTINELS", "h:99999", {}),
        ("REDIS__SENTINELS", f"redis://:{SECRET}@h:26379", {}),
        ("REDIS__CA_FILE", __file__, {}),
        ("REDIS__CERT_FILE", __file__, {}),
        ("REDIS__KEY_FILE", __file__, {}),
        ("REDIS__CA_FILE", "/nonexistent.pem", {"REDIS__URL": "rediss://h"}),
        ("REDIS__CA_FILE", "/dev/zero", {"REDIS__URL": "rediss://h"}),
        ("REDIS__CA_FILE", "/usr", {"REDIS__URL": "rediss://h"}),
        ("REDIS__CA_FILE", __file__, {"REDIS__URL": "rediss://h"}),
        ("REDIS__CA_FILE", "x" * 5000, {"REDIS__URL": "rediss://h"}),
        ("REDIS__CERT_FILE", __file__, {"REDIS__URL": "rediss://h"}),
        ("REDIS__KEY_FILE", __file__, {"REDIS__URL": "rediss://h"}),
        ("REDIS__TIMEOUT_SECONDS", "nan", {}),
        ("REDIS__PASSWORD", "\n", {}),
        ("REDIS__PASSWORD__X", SECRET, {}),
        ("REDIS__PASSWORD", f"{SECRET}\udcff", {}),
        ("REDIS__URL", f"redis://:{SECRET}\udcff@h:6379", {}),
        ("TRACING__SAMPLE_RATIO", "nan", {}),
        ("TRACING__ENDPOINT", f"http://h:4318?key={SECRET}", {}),
        ("ELASTICSEARCH__URL", "http://one:9200,https://two:9200", {}),
        ("ELASTICSEARCH__URL", "http://one:9200,http://one:9200", {}),
        ("ELASTICSEARCH__URL", "http://user@one:9200", {}),
        ("ELASTICSEARCH__URL", f"http://one:9200?key={SECRET}", {}),
        ("ELASTICSEARCH__URL", f"http://user:{SECRET}@{SECRET}@one:9200", {}),
        ("ELASTICSEARCH__USERNAME", "elastic", {}),
        ("ELASTICSEARCH__USERNAME", f"elastic:{SECRET}", {"ELASTICSEARCH__PASSWORD": SECRET}),
        ("ELASTICSEARCH__PASSWORD", SECRET, {}),
        ("ELASTICSEARCH__API_KEY", f"{SECRET}é", {}),
        ("ELASTICSEARCH__API_KEY", f"{SECRET}\n{SECRET}", {}),
        ("ELASTICSEARCH__CA_FILE", __file__, {}),
        ("ELASTICSEARCH__CA_FILE", "/nonexistent.pem", {"ELASTICSEARCH__URL": "https://h"}),
        ("ELASTICSEARCH__CERT_FILE", __file__, {}),
        ("ELASTICSEARCH__KEY_FILE", __file__, {"ELASTICSEARCH__URL": "https://h"}),
    ],
)
def test_setting_that_would_fail_later_is_refused_by_its_name_without_telling_a_secret(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, others: dict[str, str]
) -> None:
    (line,) = complaints(monkeypatch, **{variable: value}, **others)
    assert line.startswith(f"HITCOUNTER_{variable.removesuffix('__X')}: ")
    assert SECRET not in line


@pytest.mark.parametrize(
    "variables",
    [
        {"REDIS__SENTINELS": "[fd00::1]:26379,sentinel-1.redis:26379"},
        {"REDIS__USERNAME": "api", "REDIS__PASSWORD": "p@ss/w#rd?%:é"},
        {"REDIS__USERNAME": "api", "REDIS__URL": "redis://other:password@h"},
        {"ELASTICSEARCH__URL": "https://one.example/prefix,https://[::1]:9201"},
        {"ELASTICSEARCH__URL": "http://user:pass@h:9200"},
        {"ELASTICSEARCH__USERNAME": "élastic", "ELASTICSEARCH__PASSWORD": "pässwört€"},
        {"ELASTICSEARCH__USERNAME": "elastic", "ELASTICSEARCH__API_KEY": "abc123=="},
    ],
)
async def test_settings_that_are_right_make_clients(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"HITCOUNTER_{name}", value)
    await build_clients(load_settings(ExampleSettings))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
def test_newline_at_the_end_of_a_secret_is_taken_off(monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    for name in ("REDIS__PASSWORD", "ELASTICSEARCH__API_KEY", "REDIS__SENTINEL_PASSWORD"):
        monkeypatch.setenv(f"HITCOUNTER_{name}", f"abc123=={end}")
    monkeypatch.setenv("HITCOUNTER_REDIS__URL", f"redis://h:6379/0{end}")
    settings = load_settings(ExampleSettings)
    assert settings.redis.password == settings.redis.sentinel_password == SecretStr("abc123==")
    assert settings.elasticsearch.api_key == SecretStr("abc123==")
    assert settings.redis.url == SecretStr("redis://h:6379/0")


async def test_password_outside_ascii_reaches_elasticsearch_as_utf8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HITCOUNTER_ELASTICSEARCH__USERNAME", "elastic")
    monkeypatch.setenv("HITCOUNTER_ELASTICSEARCH__PASSWORD", "pässwört€")
    async with open_client(load_settings(ExampleSettings).elasticsearch) as client:
        kind, _, encoded = client._headers["authorization"].partition(" ")
    assert kind == "Basic"
    assert base64.b64decode(encoded).decode() == "elastic:pässwört€"


@pytest.mark.parametrize(("host", "read"), [("[::]", "::"), ("::1", "::1"), ("0.0.0.0", "0.0.0.0"), ("h-1", "h-1")])
def test_host_to_listen_on_may_be_an_address_with_or_without_brackets_or_a_name(host: str, read: str) -> None:
    assert ManagementSettings(host=host, port=1).host == read


@pytest.mark.parametrize("host", ["[", "[::1", "::1]", "[name]", "a..b", "x" * 64, "http://h", "1.2.3.4:80", "*"])
def test_host_to_listen_on_that_is_none_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="IP address"):
        ManagementSettings(host=host, port=1)


@pytest.mark.parametrize("prefix", ["a", "hits", "my-hits_2", "h" * 64])
def test_index_prefix_that_elasticsearch_takes_is_taken(monkeypatch: pytest.MonkeyPatch, prefix: str) -> None:
    monkeypatch.setenv("HITCOUNTER_ELASTICSEARCH__INDEX_PREFIX", prefix)
    assert load_settings(ExampleSettings).elasticsearch.index_prefix == prefix


@pytest.mark.parametrize("prefix", ["Hits", "-hits", "_hits", "hits*", "hits.eu", "h" * 65, "hi\nts"])
def test_index_prefix_that_could_not_name_an_index_is_refused(monkeypatch: pytest.MonkeyPatch, prefix: str) -> None:
    assert len(complaints(monkeypatch, ELASTICSEARCH__INDEX_PREFIX=prefix)) == 1


def test_wrong_settings_end_the_process_with_status_2_and_the_lines_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HITCOUNTER_INDEX__SHARDS", "0")
    monkeypatch.setenv("HITCOUNTER_LOG__FORMAT", "xml")
    with pytest.raises(SystemExit) as ended:
        load_settings_or_exit(ExampleSettings)
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 2


def test_settings_cannot_be_changed_after_they_were_read() -> None:
    settings = load_settings(ExampleSettings)
    with pytest.raises(ValueError, match="frozen"):
        settings.redis.prefix = "other"  # type: ignore[misc]  # the plugin knows, too
