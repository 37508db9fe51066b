"""Settings come from the environment, once; what is wrong with them is said all at once, in words."""

from __future__ import annotations

import pytest
from hitcounter.errors import ConfigurationError
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
from pydantic import SecretStr


class ExampleSettings(SettingsBase):
    """What a service would declare."""

    elasticsearch: ElasticsearchSettings = ElasticsearchSettings()
    index: IndexSettings = IndexSettings()
    tracing: TracingSettings = TracingSettings()


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
    assert "redis://" in line
    assert "it is" not in line


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
    assert "http://" in line
    assert "it is" not in line


@pytest.mark.parametrize("url", ["collector:4318", "grpc://collector:4317", "http://"])
def test_address_that_is_none_of_a_collector_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    (line,) = complaints(monkeypatch, TRACING__ENDPOINT=url)
    assert line == "HITCOUNTER_TRACING__ENDPOINT: must be an address such as http://collector:4318"


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


@pytest.mark.parametrize("prefix", ["a", "hits", "my-hits_2", "h" * 64])
def test_index_prefix_that_elasticsearch_takes_is_taken(monkeypatch: pytest.MonkeyPatch, prefix: str) -> None:
    monkeypatch.setenv("HITCOUNTER_ELASTICSEARCH__INDEX_PREFIX", prefix)
    assert load_settings(ExampleSettings).elasticsearch.index_prefix == prefix


@pytest.mark.parametrize("prefix", ["Hits", "-hits", "_hits", "hits*", "hits.eu", "h" * 65, "hits\n"])
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
