"""What holds of every rendering, whichever the values."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.chart.cases import YOURS
from tests.chart.rendering import Case, Manifest, Pod, Rendering, component_of, describe, render, selects, walk

OURS = {"api", "indexer", "operator", "test"}


@pytest.fixture
def pods(renderings: list[Rendering]) -> list[tuple[Rendering, Pod]]:
    return [(rendering, pod) for rendering in renderings for pod in rendering.pods()]


def containers(pods: list[tuple[Rendering, Pod]]) -> Iterator[tuple[Rendering, Pod, Manifest]]:
    for rendering, pod in pods:
        for container in pod.containers:
            yield rendering, pod, container


# ── names ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_two_objects_have_the_same_name(renderings: list[Rendering]) -> None:
    for rendering in renderings:
        names = Counter(
            (item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"]) for item in rendering.objects
        )
        assert [name for name, count in names.items() if count > 1] == [], rendering.case.name


def test_names_leave_room_for_what_kubernetes_and_keda_append(renderings: list[Rendering]) -> None:
    room = {
        "StatefulSet": 52,
        "ScaledObject": 63 - len("keda-hpa-"),
        "Deployment": 63 - len("-0123456789-01234"),
    }
    for rendering in renderings:
        for item in rendering.objects:
            name = item["metadata"]["name"]
            assert len(name) <= room.get(item["kind"], 63), describe(item)
            assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name), describe(item)


def test_every_object_says_what_it_belongs_to(renderings: list[Rendering]) -> None:
    for rendering in renderings:
        for item in rendering.objects:
            if component_of(item) == "mine":
                continue
            labels = item["metadata"]["labels"]
            assert labels["app.kubernetes.io/name"] == "hitcounter"
            assert labels["app.kubernetes.io/instance"] == rendering.case.release
            assert labels["app.kubernetes.io/part-of"] == "hitcounter"


def test_everybody_wears_the_common_labels(renderings: list[Rendering]) -> None:
    for rendering in renderings:
        if wanted := rendering.case.values.get("global", {}).get("commonLabels"):
            for item in [*rendering.objects, *(pod.template for pod in rendering.pods())]:
                assert selects(wanted, item["metadata"]["labels"]), describe(item)


# ── selectors and references ─────────────────────────────────────────────────────────────────────────────────────────


def test_every_selector_picks_pods_of_its_own_component(renderings: list[Rendering]) -> None:
    for rendering in renderings:
        for item in rendering.objects:
            match item["kind"]:
                case "Deployment" | "StatefulSet" | "PodDisruptionBudget" | "PodMonitor":
                    selector = item["spec"]["selector"]["matchLabels"]
                case "Service":
                    selector = item["spec"]["selector"]
                case "NetworkPolicy":
                    selector = item["spec"]["podSelector"]["matchLabels"]
                case _:
                    continue
            picked = {component_of(pod.template) for pod in rendering.pods() if selects(selector, pod.labels)}
            assert picked == {component_of(item)}, f"{describe(item)} of {rendering.case.name}"


def test_selectors_hold_nothing_that_an_upgrade_changes(renderings: list[Rendering]) -> None:
    names = {f"app.kubernetes.io/{name}" for name in ("name", "instance", "component")}
    for rendering in renderings:
        for item in (*rendering.all("Deployment"), *rendering.all("StatefulSet")):
            assert set(item["spec"]["selector"]["matchLabels"]) == names


def test_every_named_port_exists(renderings: list[Rendering]) -> None:
    for rendering in renderings:
        for item in rendering.objects:
            if item["kind"] == "Service":
                selector, wanted = item["spec"]["selector"], {port["targetPort"] for port in item["spec"]["ports"]}
            elif item["kind"] == "PodMonitor":
                selector = item["spec"]["selector"]["matchLabels"]
                wanted = {endpoint["port"] for endpoint in item["spec"]["podMetricsEndpoints"]}
            else:
                continue
            (pod,) = [pod for pod in rendering.pods() if selects(selector, pod.labels)]
            assert wanted <= {port["name"] for container in pod.containers for port in container.get("ports", [])}


def test_probes_ask_at_ports_that_exist(pods: list[tuple[Rendering, Pod]]) -> None:
    for _, pod, container in containers(pods):
        ports = {port["name"] for port in container.get("ports", [])}
        for probe in (container[name] for name in container if name.endswith("Probe")):
            for way in ("httpGet", "tcpSocket"):
                assert way not in probe or probe[way]["port"] in ports, pod.name


def test_every_reference_is_to_something_of_ours_or_of_the_users(renderings: list[Rendering]) -> None:
    references = {
        "secretRef": "Secret",
        "secretKeyRef": "Secret",
        "configMapRef": "ConfigMap",
        "configMap": "ConfigMap",
    }
    for rendering in renderings:
        if rendering.case.files:
            continue  # the profiles name Secrets that people make
        made = {(item["kind"], item["metadata"]["name"]): item for item in rendering.objects}
        for pod in rendering.pods():
            for mapping in walk(pod.spec):
                for word, kind in references.items():
                    if not isinstance(mapping.get(word), dict) or mapping[word]["name"] == YOURS:
                        continue
                    target = made[kind, mapping[word]["name"]]
                    if "key" in mapping[word]:
                        assert mapping[word]["key"] in target["stringData"]
                if isinstance(mapping.get("secret"), dict):
                    assert mapping["secret"]["secretName"] == YOURS


def test_every_mount_has_its_volume(pods: list[tuple[Rendering, Pod]]) -> None:
    for rendering, pod, container in containers(pods):
        claims = pod.owner["spec"].get("volumeClaimTemplates", [])
        volumes = [volume["name"] for volume in pod.spec.get("volumes", [])] + [
            claim["metadata"]["name"] for claim in claims
        ]
        assert len(set(volumes)) == len(volumes)
        assert {mount["name"] for mount in container.get("volumeMounts", [])} <= set(volumes), (
            f"{pod.name} of {rendering.case.name}"
        )


def test_every_service_account_is_made_and_nobody_but_the_operator_gets_a_token(
    pods: list[tuple[Rendering, Pod]],
) -> None:
    for rendering, pod in pods:
        accounts = {item["metadata"]["name"]: item for item in rendering.all("ServiceAccount")}
        name = pod.spec["serviceAccountName"]
        assert pod.spec["automountServiceAccountToken"] is (component_of(pod.template) == "operator")
        assert name == YOURS or accounts[name]["automountServiceAccountToken"] is False


def test_no_variable_is_set_twice(pods: list[tuple[Rendering, Pod]]) -> None:
    for rendering, pod, container in containers(pods):
        names = Counter(item["name"] for item in container.get("env", []))
        maps = {
            reference["configMapRef"]["name"]
            for reference in container.get("envFrom", [])
            if "configMapRef" in reference
        }
        names.update(
            name for item in rendering.all("ConfigMap") if item["metadata"]["name"] in maps for name in item["data"]
        )
        assert [name for name, count in names.items() if count > 1] == [], pod.name


# ── pods ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_pod_meets_pod_security_restricted(pods: list[tuple[Rendering, Pod]]) -> None:
    harmless_volumes = {"configMap", "emptyDir", "secret"}
    for _, pod, container in containers(pods):
        security, of_container = pod.spec["securityContext"], container["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] > 0
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert of_container["allowPrivilegeEscalation"] is False
        assert of_container["capabilities"] == {"drop": ["ALL"]}
        assert "privileged" not in of_container
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.spec.keys()
        assert all(set(volume) - {"name"} <= harmless_volumes for volume in pod.spec.get("volumes", []))


def test_roots_are_read_only_but_elasticsearchs_and_the_hot_reloads(pods: list[tuple[Rendering, Pod]]) -> None:
    for rendering, pod, container in containers(pods):
        is_writable = not container["securityContext"].get("readOnlyRootFilesystem")
        is_meant = (
            component_of(pod.template) == "elasticsearch" or "k8s/profiles/hot-reload.yaml" in rendering.case.files
        )
        assert is_writable <= is_meant, f"{pod.name} of {rendering.case.name}"


def test_every_container_says_what_it_needs_and_may_take(pods: list[tuple[Rendering, Pod]]) -> None:
    for _, pod, container in containers(pods):
        resources = container["resources"]
        assert {"cpu", "memory"} <= resources["requests"].keys(), pod.name
        assert "memory" in resources["limits"], pod.name


def test_whatever_serves_has_three_probes(pods: list[tuple[Rendering, Pod]]) -> None:
    for _, pod in pods:
        for container in pod.spec["containers"]:
            if pod.runs_for_ever:
                assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys(), pod.name


def test_no_probe_asks_for_the_health_of_another_server(pods: list[tuple[Rendering, Pod]]) -> None:
    for _, pod, container in containers(pods):
        if component_of(pod.template) in ("api", "indexer", "operator"):
            assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
            assert container["startupProbe"]["httpGet"]["path"] == "/livez"
            assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_every_image_has_a_tag_that_does_not_move_or_a_digest(pods: list[tuple[Rendering, Pod]]) -> None:
    for _, pod, container in containers(pods):
        image = container["image"]
        assert re.search(r":v?\d+\.\d+\.\d+|@sha256:[0-9a-f]{64}$", image), f"{pod.name}: {image}"
        assert "bitnami" not in image


def test_one_registry_and_its_password_reach_every_pod(pods: list[tuple[Rendering, Pod]]) -> None:
    seen = set()
    for rendering, pod, container in containers(pods):
        if registry := rendering.case.values.get("global", {}).get("imageRegistry"):
            assert container["image"].startswith(f"{registry}/"), pod.name
            assert pod.spec["imagePullSecrets"] == [{"name": YOURS}], pod.name
            seen.add(component_of(pod.template))
    assert seen == {*OURS, "redis", "elasticsearch"}


def test_registry_of_our_images_moves_no_other_image() -> None:
    values = {"operator": {"enabled": True}, "image": {"registry": "registry.example.org/team"}}
    before = {pod.name: pod for pod in render(Case("", {"operator": {"enabled": True}})).pods()}
    for pod in render(Case("", values)).pods():
        image, old = pod.containers[0]["image"], before[pod.name].containers[0]["image"]
        is_ours = component_of(pod.template) not in ("redis", "elasticsearch")
        assert image == (f"registry.example.org/team/{old}" if is_ours else old), pod.name


def test_more_specific_and_mirroring_registries_take_precedence() -> None:
    def images(**values: Any) -> set[str]:
        rendering = render(Case("", {"image": {"registry": "ours"}, "api": {"image": {"registry": "own"}}, **values}))
        names = {rendering.pod(component).containers[0]["image"] for component in ("api", "indexer", "redis")}
        return {name.partition("/")[0] for name in names}

    assert images() == {"own", "ours", "docker.io"}
    assert images(**{"global": {"imageRegistry": "mirror"}}) == {"mirror"}


def test_pods_start_anew_when_their_settings_change() -> None:
    def checksums(values: dict[str, Any], component: str) -> dict[str, str]:
        annotations = render(Case("", values)).pod(component).template["metadata"]["annotations"]
        return {name: value for name, value in annotations.items() if name.startswith("checksum/")}

    assert checksums({}, "api") != checksums({"config": {"log": {"level": "debug"}}}, "api")
    assert checksums({}, "indexer") == checksums({"api": {"config": {"reads": {"max_concurrent": 8}}}}, "indexer")
    assert checksums({}, "redis") != checksums({"redis": {"appendfsync": "everysec"}}, "redis")
    one, other = (
        {"redis": {"auth": {"enabled": True, "apiPassword": password, "indexerPassword": "b"}}} for password in "xy"
    )
    assert checksums(one, "api") != checksums(other, "api")
    assert checksums(one, "redis") != checksums(other, "redis")


# ── things that are off ──────────────────────────────────────────────────────────────────────────────────────────────


def test_no_part_of_ours_may_be_wholly_away_during_an_upgrade(renderings: list[Rendering]) -> None:
    """Where one of one may be away, Helm and kubectl call a Deployment available that has no ready pod at all."""
    for rendering in renderings:
        for deployment in rendering.all("Deployment"):
            strategy = deployment["spec"]["strategy"]
            if strategy["type"] == "RollingUpdate":
                assert strategy["rollingUpdate"]["maxUnavailable"] == 0, deployment["metadata"]["name"]


def test_what_is_off_leaves_no_trace(renderings: list[Rendering]) -> None:
    for rendering in renderings:
        values = rendering.case.values
        if rendering.case.files:
            continue
        kinds = {item["kind"] for item in rendering.objects}
        for section, kind in [("ingress", "Ingress"), ("httpRoute", "HTTPRoute")]:
            assert (kind in kinds) == values.get(section, {}).get("enabled", False)
        assert ("PodMonitor" in kinds) == ("monitoring" in values)
        assert ("NetworkPolicy" in kinds) == values.get("networkPolicy", {}).get("enabled", True)
        has_operator = values.get("operator", {}).get("enabled", False)
        assert not {"CronJob", "Job"} & kinds
        assert ("operator" in {component_of(item) for item in rendering.objects}) == has_operator
        for store in ("redis", "elasticsearch"):
            is_on = values.get(store, {}).get("enabled", True)
            assert (store in {component_of(item) for item in rendering.objects}) == is_on
