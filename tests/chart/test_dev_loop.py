"""Skaffold, Compose, kind, the images and the chart tell the same story."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import hitcounter
import pytest
import yaml
from hitcounter_api.settings import ApiSettings
from hitcounter_indexer.settings import IndexerSettings
from jsonschema.validators import validator_for

from tests.chart.rendering import CHART, NAMESPACE, RELEASE, ROOT, Case, component_of, render, walk
from tests.chart.schemas import FOREIGN
from tests.chart.test_settings import variables_of
from tests.consistency.test_locks import pins
from tests.consistency.workspace import run

IMAGES = sorted(file.parent.name for file in ROOT.glob("services/*/pyproject.toml"))
SERVICES = ["api", "indexer", "operator"]
COMPOSED = ["api", "indexer"]
"""Compose has no Kubernetes for the operator to speak to."""
EVERYTHING = Case("", {"operator": {"enabled": True}})
SKAFFOLD: dict[str, Any] = yaml.safe_load((ROOT / "skaffold.yaml").read_text())
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
APP_VERSION: str = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]


DOCKERFILE = (ROOT / "services/Dockerfile").read_text()


def dockerfile(service: str) -> str:
    """Return the Dockerfile as the builder reads it for one service."""
    return DOCKERFILE.replace("${SERVICE}", service)


def releases() -> Iterator[dict[str, Any]]:
    for mapping in walk(SKAFFOLD):
        yield from mapping.get("releases", [])


def artifacts() -> Iterator[dict[str, Any]]:
    for mapping in walk(SKAFFOLD):
        yield from mapping.get("artifacts", [])


# ── images ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("service", IMAGES)
def test_image_has_its_own_lock_and_its_own_sources_only(service: str) -> None:
    copied = re.findall(r"^COPY (?:--\S+ )*(.+) \S+$", dockerfile(service), re.MULTILINE)
    allowed = {
        f"requirements/{service}.lock",
        "packages/hitcounter",
        "packages/hitcounter/src",
        f"services/{service}",
        f"services/{service}/src",
        "/opt/hitcounter",
        "tools/reload.py",
    }
    assert set(copied) <= allowed


def test_image_is_built_with_the_uv_that_is_locked() -> None:
    assert f"ARG UV_VERSION={pins('dev')['uv']}\n" in DOCKERFILE


@pytest.mark.parametrize("service", SERVICES)
def test_image_runs_as_the_user_and_on_the_ports_that_the_chart_expects(service: str) -> None:
    text = dockerfile(service)
    pod = render(EVERYTHING).pod(service)
    security = pod.spec["securityContext"]
    assert f"USER {security['runAsUser']}:{security['runAsGroup']}\n" in text
    ports = [str(port["containerPort"]) for port in pod.containers[0]["ports"]]
    (exposed,) = re.findall(r"^EXPOSE (.*)$", text, re.MULTILINE)
    assert set(ports) <= set(exposed.split())
    assert f'ln -s "hitcounter-{service}" /opt/hitcounter/bin/hitcounter\n' in text
    assert text.rstrip().endswith('ENTRYPOINT ["hitcounter"]')


def test_image_sets_only_variables_that_a_service_reads() -> None:
    read = {variable for service in SERVICES for variable in variables_of(service)}
    assert set(re.findall(r"(HITCOUNTER_\w+)=", DOCKERFILE)) <= read


def test_nothing_but_what_the_images_copy_goes_to_the_builder() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    copied = {
        path
        for service in IMAGES
        for path in re.findall(r"^COPY (?:--chown=\S+ )?([^-/]\S*) ", dockerfile(service), re.MULTILINE)
    }
    let_in = {line[1:] for line in lines if line.startswith("!")}
    assert lines[1] == "*"
    assert {path for path in copied if not any(f"{path}/".startswith(f"{top}/") for top in let_in)} == set()
    assert {top for top in let_in if top not in copied} == set()


def test_version_of_the_images_is_that_of_the_code() -> None:
    assert hitcounter.__version__ == APP_VERSION
    assert f"ARG VERSION={APP_VERSION}\n" in DOCKERFILE


def test_every_service_that_is_released_has_an_image_and_the_chart_says_which() -> None:
    assert set(SERVICES) <= set(IMAGES) <= {"api", "indexer", "operator"}
    for service in SERVICES:
        assert VALUES[service]["image"]["repository"] == f"hitcounter-{service}"


def test_make_runs_what_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    profiles = {profile["name"] for profile in SKAFFOLD["profiles"]}
    assert set(re.findall(r"skaffold dev --profile (\S+)", makefile)) <= profiles
    composed = {profile for service in COMPOSE["services"].values() for profile in service.get("profiles", [])}
    assert set(re.findall(r"docker compose --profile (\S+) down", makefile)) == composed, "or something is left behind"
    assert "\n\ttools/images.sh\n" in makefile
    assert "\n\ttools/pin.sh\n" in makefile


def test_scripts_are_sound() -> None:
    for script in ("images", "helm", "pin"):
        run("bash", "-n", f"tools/{script}.sh")


# ── Skaffold ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_skaffold_builds_the_images_of_the_chart() -> None:
    wanted = {(VALUES[service]["image"]["repository"], service) for service in SERVICES}
    assert {(artifact["image"], artifact["docker"]["buildArgs"]["SERVICE"]) for artifact in artifacts()} == wanted
    assert {artifact["docker"]["dockerfile"] for artifact in artifacts()} == {"services/Dockerfile"}


def test_skaffold_puts_the_images_where_the_chart_reads_them() -> None:
    for profile, services in [("dev", COMPOSED), ("operator", SERVICES)]:
        (found,) = [item for item in SKAFFOLD["profiles"] if item["name"] == profile]
        built = [artifact["image"] for artifact in found["build"]["artifacts"]]
        assert built == [f"hitcounter-{service}" for service in services]
    for release in releases():
        for path, template in release["setValueTemplates"].items():
            service, image, field = path.split(".")
            assert field in VALUES[service][image]
            assert template == f"{{{{.IMAGE_{field.upper().replace('REPOSITORY', 'REPO')}_hitcounter_{service}}}}}"
        pods = render(Case("", files=tuple(release["valuesFiles"]))).pods()
        ours = {component_of(pod.template) for pod in pods} & set(SERVICES)
        assert len(release["setValueTemplates"]) == 2 * len(ours)


def test_every_profile_of_skaffold_is_one_release_that_renders() -> None:
    assert {profile["name"] for profile in SKAFFOLD["profiles"]} == {
        "dev",
        "keda",
        "operator",
        "monitoring",
        "production-like",
    }
    for release in releases():
        assert (release["name"], release["namespace"]) == (RELEASE, NAMESPACE)
        assert ROOT / release["chartPath"] == CHART
        assert render(Case("", files=tuple(release["valuesFiles"]))).objects


def test_skaffold_forwards_to_services_that_exist() -> None:
    services = {item["metadata"]["name"]: item for item in render(Case("")).all("Service")}
    for mapping in walk(SKAFFOLD):
        for forward in mapping.get("portForward", []):
            if forward["namespace"] == NAMESPACE:
                ports = [port["port"] for port in services[forward["resourceName"]]["spec"]["ports"]]
                assert forward["port"] in ports
            assert forward["address"] == "127.0.0.1"


def test_hot_reload_writes_into_folders_that_the_dev_image_runs_from() -> None:
    for artifact in artifacts():
        if "sync" not in artifact:
            continue
        assert artifact["docker"]["target"] == "dev"
        text = dockerfile(artifact["docker"]["buildArgs"]["SERVICE"])
        (path,) = re.findall(r"^ENV PYTHONPATH=(\S+)$", text, re.MULTILINE)
        for rule in artifact["sync"]["manual"]:
            folder = rule["src"].split("/**")[0]
            assert list(ROOT.glob(rule["src"]))
            assert f"{rule['dest']}/{folder}" in path.split(":")


# ── Compose ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_compose_file_keeps_to_its_schema() -> None:
    body = json.loads((FOREIGN / "compose-spec.json").read_text())
    schema = validator_for(body)(body)
    assert [error.message for error in schema.iter_errors(COMPOSE)] == []
    api = COMPOSE["services"]["api"]
    wrong = {**COMPOSE, "services": {"api": {**api, "enviroment": {}}}}
    assert any("enviroment" in error.message for error in schema.iter_errors(wrong))


@pytest.mark.parametrize("service", COMPOSED)
def test_compose_sets_only_variables_that_the_service_reads(service: str) -> None:
    assert set(COMPOSE["services"][service]["environment"]) <= variables_of(service)


@pytest.mark.parametrize("service", COMPOSED)
def test_compose_runs_what_the_chart_runs(service: str) -> None:
    composed = COMPOSE["services"][service]
    assert composed["image"] == render(Case("")).pod(service).containers[0]["image"]
    assert composed["build"]["dockerfile"] == "services/Dockerfile"
    assert composed["build"]["args"] == {"SERVICE": service}
    grace = render(Case("")).pod(service).spec["terminationGracePeriodSeconds"]
    assert int(composed["stop_grace_period"].removesuffix("s")) >= grace
    assert composed["read_only"] is True


@pytest.mark.parametrize("store", ["redis", "elasticsearch"])
def test_compose_has_the_stores_of_the_chart(store: str) -> None:
    assert COMPOSE["services"][store]["image"] == render(Case("")).pod(store).containers[0]["image"]


def test_compose_opens_the_ports_that_people_know_and_to_this_machine_only() -> None:
    published = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert sorted(published) == ["127.0.0.1:5601:5601", "127.0.0.1:8001:8001", "127.0.0.1:9200:9200"]
    assert ApiSettings().http.port == 8001


def test_compose_asks_the_readiness_of_each_service_at_its_port() -> None:
    ports = {"api": ApiSettings().management.port, "indexer": IndexerSettings().management.port}
    for service, port in ports.items():
        assert f"127.0.0.1:{port}/readyz" in COMPOSE["services"][service]["healthcheck"]["test"][-1]


# ── what people are told ─────────────────────────────────────────────────────────────────────────────────────────────

QUICKSTART = ROOT / "docs/quickstart.md"


def test_images_that_people_load_are_those_that_the_chart_runs() -> None:
    named = set(re.findall(r"\bhitcounter-\w+:[\w.]+", QUICKSTART.read_text()))
    images = [container["image"] for pod in render(EVERYTHING).pods() for container in pod.containers]
    assert named == {image for image in images if image.startswith("hitcounter-")}


def test_profiles_that_people_are_told_of_are_all_that_there_are() -> None:
    told = re.findall(r"skaffold (?:dev|run) --profile ([\w,-]+)", QUICKSTART.read_text())
    assert {name for names in told for name in names.split(",")} == {item["name"] for item in SKAFFOLD["profiles"]}


def test_add_ons_are_installed_by_the_same_commands_everywhere() -> None:
    def commands(text: str) -> set[str]:
        joined = re.sub(r"\\\n#?\s*", "", text)
        found = re.findall(r"helm upgrade --install \S+ \S+ --repo .+", joined)
        return {command.partition("  #")[0].strip() for command in found}

    in_files = {command for file in ROOT.glob("k8s/addons/*.yaml") for command in commands(file.read_text())}
    assert commands(QUICKSTART.read_text()) == in_files


# ── kind ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_kind_opens_the_node_port_of_the_development_values_on_this_machine_only() -> None:
    kind = yaml.safe_load((ROOT / "kind-config.yaml").read_text())
    (mapping,) = [port for node in kind["nodes"] for port in node.get("extraPortMappings", [])]
    service = render(Case("", files=("charts/hitcounter/values-dev.yaml",))).one("Service", "api")
    assert mapping["containerPort"] == service["spec"]["ports"][0]["nodePort"]
    assert mapping["hostPort"] == ApiSettings().http.port
    assert mapping["listenAddress"] == "127.0.0.1"


def test_every_file_that_a_comment_or_document_of_the_roof_names_exists() -> None:
    texts = [
        *ROOT.glob("k8s/**/*.yaml"),
        *ROOT.glob("k8s/*.md"),
        *CHART.glob("*.yaml"),
        ROOT / "skaffold.yaml",
        QUICKSTART,
    ]
    missing = {
        f"{text.name}: {named}"
        for text in texts
        for named in re.findall(r"\b(?:k8s|charts|docs|tools)/[\w./-]+\.(?:yaml|md|py|sh)\b", text.read_text())
        if not any((folder / named).exists() for folder in (ROOT, CHART))
    }
    assert missing == set()
