"""Settings, their variables in the rendered pods, and their names in the values agree, both ways."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hitcounter.settings import SettingsBase, load_settings, variable_name
from hitcounter_api.settings import ApiSettings
from hitcounter_indexer.settings import IndexerSettings
from hitcounter_operator.settings import OperatorSettings
from pydantic import BaseModel

from tests.chart.cases import merge
from tests.chart.rendering import CHART, Case, Rendering, component_of, render

SERVICES: dict[str, type[SettingsBase]] = {"api": ApiSettings, "indexer": IndexerSettings, "operator": OperatorSettings}
WITH_OPERATOR = {"operator": {"enabled": True}}
GRACE_MARGIN_SECONDS = 10

SCHEMA = json.loads((CHART / "values.schema.json").read_text())

NOT_IN_PODS = {
    "HITCOUNTER_HTTP__PORT": "pods have addresses of their own: there is no reason for another port",
    "HITCOUNTER_MANAGEMENT__PORT": "the same",
    "HITCOUNTER_HTTP__REUSE_PORT": "a pod has its port to itself",
    "HITCOUNTER_ACCESS__MODE": "not in the chart yet: it needs the keys file in a Secret",
    "HITCOUNTER_ACCESS__KEYS_FILE": "the same",
}
"""Settings that the chart leaves alone, and why."""


def settings_of(service: str) -> dict[str, type[BaseModel]]:
    """Return the sections that a service reads."""
    sections = {}
    for name, field in SERVICES[service].model_fields.items():
        assert isinstance(field.annotation, type)
        sections[name] = field.annotation
    return sections


def variables_of(service: str) -> set[str]:
    """Return every variable that a service reads."""
    sections = settings_of(service).items()
    return {variable_name(section, field) for section, model in sections for field in model.model_fields}


def sections_in_values(service: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the sections of settings that people may set for a service, as the schema has them."""
    of_all = SCHEMA["properties"]["config"]["properties"]
    of_one = SCHEMA["properties"][service]["properties"]["config"]["properties"]
    for name, section in [*of_all.items(), *of_one.items()]:
        if name in settings_of(service):
            yield name, section["properties"]


def having(service: str, renderings: list[Rendering]) -> list[Rendering]:
    """Return the renderings in which there is such a service."""
    found = [rendering for rendering in renderings if service in {component_of(item) for item in rendering.objects}]
    assert found
    return found


@pytest.mark.parametrize("service", SERVICES)
def test_no_pod_has_a_variable_that_its_service_does_not_read(renderings: list[Rendering], service: str) -> None:
    for rendering in having(service, renderings):
        found = {name for name in rendering.environment(service) if name.startswith("HITCOUNTER_")}
        assert found <= variables_of(service), rendering.case.name


@pytest.mark.parametrize("service", SERVICES)
def test_every_pod_starts_with_its_variables(
    renderings: list[Rendering], service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The files are in the pods; what is in Secrets is somebody's password.
    monkeypatch.setattr("hitcounter.settings.find_tls_fault", lambda **_: None)
    for rendering in having(service, renderings):
        with monkeypatch.context() as environment:
            for name, value in rendering.environment(service).items():
                environment.setenv(name, "secret" if value is None else str(value))
            load_settings(SERVICES[service])


@pytest.mark.parametrize("service", SERVICES)
def test_every_setting_can_be_set_or_is_set_by_the_chart(renderings: list[Rendering], service: str) -> None:
    by_chart = {name for rendering in having(service, renderings) for name in rendering.environment(service)}
    by_people = {variable_name(section, field) for section, fields in sections_in_values(service) for field in fields}
    assert variables_of(service) - by_chart - by_people == NOT_IN_PODS.keys() & variables_of(service)


def sample(field: dict[str, Any]) -> Any:
    """Return a value that the schema of a field allows, a large one where that is a number."""
    if field.get("type") in ("integer", "number"):
        return field.get("maximum", 7)
    if field.get("type") == "boolean":
        return True
    if "enum" in field:
        return field["enum"][-1]
    return {"^(debug|info|warning|error)$": "debug", "^(auto|json|text)$": "text"}.get(
        field.get("pattern", ""), "sample"
    )


def written(value: object) -> str:
    """Return the value as a variable has it."""
    return value if isinstance(value, str) else json.dumps(value)


def test_every_setting_of_the_values_reaches_its_pod_unchanged() -> None:
    values: dict[str, Any] = {"config": {}}
    wanted: dict[str, dict[str, str]] = {service: {} for service in SERVICES}
    for service in SERVICES:
        values[service] = {"config": {}}
        for section, fields in sections_in_values(service):
            samples = {name: sample(field) for name, field in fields.items()}
            is_shared = section in SCHEMA["properties"]["config"]["properties"]
            (values if is_shared else values[service])["config"][section] = samples
            wanted[service] |= {variable_name(section, name): written(value) for name, value in samples.items()}
    rendering = render(Case("", merge(values, WITH_OPERATOR)))
    for service in SERVICES:
        assert (
            wanted[service].items()
            <= {name: str(value) for name, value in rendering.environment(service).items()}.items()
        )


def test_unset_settings_stay_with_the_defaults_of_the_code() -> None:
    rendering = render(Case("defaults"))
    assert set(rendering.environment("api")) == {
        "HITCOUNTER_ELASTICSEARCH__URL",
        "HITCOUNTER_HTTP__HOST",
        "HITCOUNTER_LOG__FORMAT",
        "HITCOUNTER_MANAGEMENT__HOST",
        "HITCOUNTER_REDIS__URL",
        "HITCOUNTER_SCALING__DRAIN_TARGET_SECONDS",
        "HITCOUNTER_SCALING__HITS_PER_BUSY_SECOND",
        "HITCOUNTER_SCALING__START_SECONDS",
        "HITCOUNTER_SCALING__TARGET_UTILIZATION",
    }


def test_one_node_of_elasticsearch_gets_no_copies_unless_asked_for() -> None:
    def copies(**values: Any) -> str | None:
        return render(Case("", values)).environment("indexer").get("HITCOUNTER_INDEX__REPLICAS")

    assert copies() == "0"
    assert copies(config={"index": {"replicas": 1}}) == "1"
    assert copies(elasticsearch={"replicas": 3}) is None


def test_secrets_stand_in_no_config_map(renderings: list[Rendering]) -> None:
    for rendering in renderings:
        for item in rendering.all("ConfigMap"):
            assert not [name for name in item.get("data", {}) if name.endswith(("PASSWORD", "API_KEY"))]


# ── numbers that the chart has, too ─────────────────────────────────────────────────────────────────────────────────


def test_ports_of_the_pods_are_those_of_the_settings(renderings: list[Rendering]) -> None:
    api, indexer, operator = ApiSettings(), IndexerSettings(), OperatorSettings()
    rendering = having("operator", renderings)[0]
    ports = {
        service: {port["name"]: port["containerPort"] for port in rendering.pod(service).containers[0]["ports"]}
        for service in SERVICES
    }
    assert ports == {
        "api": {"http": api.http.port, "management": api.management.port},
        "indexer": {"management": indexer.management.port},
        "operator": {"management": operator.management.port},
    }


@pytest.mark.parametrize(("drain_seconds", "sleep_seconds"), [(None, 5), (120, 0)])
def test_grace_period_is_longer_than_everything_that_happens_in_it(
    drain_seconds: int | None, sleep_seconds: int
) -> None:
    drain = {} if drain_seconds is None else {"drain_seconds": drain_seconds}
    api = {"config": {"http": drain}, "preStopSleepSeconds": sleep_seconds}
    rendering = render(Case("", {"api": api, "indexer": {"config": {"indexer": drain}}}))
    api_drain, indexer_drain = ApiSettings().http.drain_seconds, IndexerSettings().indexer.drain_seconds
    found = {service: rendering.pod(service).spec["terminationGracePeriodSeconds"] for service in ("api", "indexer")}
    assert found == {
        "api": sleep_seconds + (drain_seconds or api_drain) + GRACE_MARGIN_SECONDS,
        "indexer": (drain_seconds or indexer_drain) + GRACE_MARGIN_SECONDS,
    }


def test_api_is_looked_away_from_before_it_is_stopped() -> None:
    assert render(Case("")).pod("api").containers[0]["lifecycle"] == {"preStop": {"sleep": {"seconds": 5}}}
    assert "lifecycle" not in render(Case("")).pod("indexer").containers[0]
