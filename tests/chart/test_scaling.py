"""Exactly one decides on the number of indexers, and it decides by the formula of the design."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hitcounter_operator.resource import Mode, ScalingSpec

from tests.chart.cases import merge
from tests.chart.promtool import Sample, assert_query
from tests.chart.rendering import (
    CHART,
    KUBERNETES,
    NAMESPACE,
    RELEASE,
    ROOT,
    Case,
    Manifest,
    Rendering,
    Values,
    component_of,
    render,
)
from tests.chart.schemas import find_faults
from tools.docgen import read_metrics

OPENAPI: dict[str, Any] = json.loads((ROOT / "docs/openapi.json").read_text())
SERVER = {"serverAddress": "http://prometheus:9090", "selector": 'job="hc"'}
KEDA: Values = {"autoscaling": {"mode": "keda", "keda": {"prometheus": SERVER}}}
STATUS: Values = {"autoscaling": {"mode": "keda", "keda": {"source": "status"}}}


def mode_of(rendering: Rendering) -> str:
    """Return the mode of a rendering, from what is there."""
    if "operator" in modes_of_hitcounters(rendering):
        return "operator"
    if rendering.all("ScaledObject"):
        return "keda"
    targets = [item["spec"]["scaleTargetRef"]["name"] for item in rendering.all("HorizontalPodAutoscaler")]
    if any(target.endswith("-indexer") for target in targets):
        return "hpa"
    return "none" if "replicas" in rendering.one("Deployment", "indexer")["spec"] else "external"


def modes_of_hitcounters(rendering: Rendering) -> list[str]:
    return [item["spec"]["scaling"]["mode"] for item in rendering.all("HitCounter")]


def scaled_object(values: Values) -> Manifest:
    spec: Manifest = render(Case("", values)).one("ScaledObject", "indexer")["spec"]
    return spec


# ── one decides ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_deployment_has_replicas_or_one_scaler_and_never_both(renderings: list[Rendering]) -> None:
    modes = set()
    for rendering in renderings:
        scalers = rendering.all("HorizontalPodAutoscaler") + rendering.all("ScaledObject")
        values = rendering.case.values
        external = {
            part
            for part, section in (("indexer", values), ("api", values.get("api", {})))
            if section.get("autoscaling", {}).get("mode") == "external"
        }
        for deployment in rendering.all("Deployment"):
            name = deployment["metadata"]["name"]
            of_it = [item for item in scalers if item["spec"]["scaleTargetRef"]["name"] == name]
            of_it += [
                item
                for item in rendering.all("HitCounter")
                if item["spec"]["scaling"]["mode"] == "operator" and item["spec"]["indexer"]["deployment"] == name
            ]
            wanted = 0 if component_of(deployment) in external else 1
            assert len(of_it) + ("replicas" in deployment["spec"]) == wanted, f"{name} of {rendering.case.name}"
        modes.add(mode_of(rendering))
    assert modes == {"none", "hpa", "keda", "operator", "external"}


def test_old_scaler_can_be_taken_over_without_a_second_one() -> None:
    values = {"autoscaling": {"mode": "keda", "keda": {"takeOverHpa": "hc-hitcounter-indexer", "prometheus": SERVER}}}
    taken = render(Case("", values)).one("ScaledObject", "indexer")
    before = render(Case("", {"autoscaling": {"mode": "hpa"}})).one("HorizontalPodAutoscaler", "indexer")
    assert taken["metadata"]["annotations"]["scaledobject.keda.sh/transfer-hpa-ownership"] == "true"
    assert taken["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["name"] == before["metadata"]["name"]


@pytest.mark.parametrize("mode", ["hpa", "keda"])
def test_bounds_and_behaviour_are_the_values(mode: str) -> None:
    behavior = {"scaleDown": {"stabilizationWindowSeconds": 7}}
    values = {
        "autoscaling": {
            "mode": mode,
            "minReplicas": 3,
            "maxReplicas": 17,
            "behavior": behavior,
            "keda": {"prometheus": SERVER},
        }
    }
    rendering = render(Case("", values))
    if mode == "hpa":
        spec = rendering.one("HorizontalPodAutoscaler", "indexer")["spec"]
        found = spec["minReplicas"], spec["maxReplicas"], spec["behavior"]
    else:
        spec = rendering.one("ScaledObject", "indexer")["spec"]
        horizontal = spec["advanced"]["horizontalPodAutoscalerConfig"]
        found = spec["minReplicaCount"], spec["maxReplicaCount"], horizontal["behavior"]
    assert found[:2] == (3, 17)
    assert found[2]["scaleDown"]["stabilizationWindowSeconds"] == 7


# ── the operator ─────────────────────────────────────────────────────────────────────────────────────────────────────

OPERATOR: Values = {"operator": {"enabled": True}, "autoscaling": {"mode": "operator"}}


def test_operator_says_what_it_would_do_where_another_scales(renderings: list[Rendering]) -> None:
    seen = set()
    for rendering in renderings:
        for mode in modes_of_hitcounters(rendering):
            seen.add((mode_of(rendering), mode))
    assert seen == {(mode, "observe") for mode in ("keda", "none", "external")} | {("operator", "operator")}


def test_operator_is_told_the_bounds_and_the_terms_of_the_values() -> None:
    values = {
        "operator": {"enabled": True},
        "autoscaling": {
            "mode": "operator",
            "minReplicas": 3,
            "maxReplicas": 17,
            "operator": {"cooldownSeconds": 60},
            "formula": {
                "targetUtilization": 0.5,
                "drainTargetSeconds": 10,
                "startSeconds": 5,
                "hitsPerBusySecond": 2_000_000,
            },
        },
    }
    (hitcounter,) = render(Case("", values)).all("HitCounter")
    assert hitcounter["spec"]["scaling"] == {
        "mode": "operator",
        "minReplicas": 3,
        "maxReplicas": 17,
        "cooldownSeconds": 60,
        "targetUtilization": 0.5,
        "drainTargetSeconds": 10,
        "startSeconds": 5,
        "hitsPerBusySecond": 2_000_000,
    }


def test_defaults_of_the_chart_are_those_of_the_resource() -> None:
    (hitcounter,) = render(Case("", OPERATOR)).all("HitCounter")
    assert hitcounter["spec"]["scaling"] == ScalingSpec(mode=Mode.OPERATOR).model_dump(by_alias=True)


def test_bounds_of_the_values_are_those_of_the_resource() -> None:
    bounds = {"minimum", "maximum", "type"}
    declared = ScalingSpec.model_json_schema()["properties"]
    section = json.loads((CHART / "values.schema.json").read_text())["properties"]["autoscaling"]["properties"]
    ours = {**section, **section["formula"]["properties"], **section["operator"]["properties"]}
    for name, field in declared.items():
        wanted = {word: value for word, value in field.items() if word in bounds}
        if name == "minReplicas":
            wanted["minimum"] = 0  # KEDA's, for which the operator is told 1
        if name != "mode":
            assert {word: value for word, value in ours[name].items() if word in bounds} == wanted, name


def test_operator_finds_its_resource_and_its_indexers_by_the_names_of_the_chart(renderings: list[Rendering]) -> None:
    for rendering in renderings:
        for hitcounter in rendering.all("HitCounter"):
            environment = rendering.environment("operator")
            assert environment["HITCOUNTER_OPERATOR__NAME"] == hitcounter["metadata"]["name"]
            assert environment["HITCOUNTER_OPERATOR__NAMESPACE"] == hitcounter["metadata"]["namespace"]
            indexers = rendering.one("Deployment", "indexer")
            assert hitcounter["spec"]["indexer"]["deployment"] == indexers["metadata"]["name"]
            assert "finalizers" not in hitcounter["metadata"], "helm uninstall would wait for it"


def test_there_is_one_operator_and_never_two() -> None:
    spec = render(Case("", OPERATOR)).one("Deployment", "operator")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


# ── KEDA ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("values", [KEDA, STATUS], ids=["prometheus", "status"])
def test_keda_that_cannot_see_holds(values: Values) -> None:
    assert scaled_object(values)["fallback"]["behavior"] == "currentReplicasIfHigher"


def test_no_answer_from_prometheus_is_no_zero() -> None:
    (trigger,) = scaled_object(KEDA)["triggers"]
    assert trigger["metadata"]["ignoreNullValues"] == "false"
    assert trigger["metricType"] == "AverageValue"
    assert trigger["metadata"]["threshold"] == "1"


def test_keda_asks_the_address_of_the_api_where_it_reads_the_status() -> None:
    rendering = render(Case("", {**STATUS, "api": {"service": {"port": 80}}}))
    service = rendering.one("Service", "api")
    (trigger,) = rendering.one("ScaledObject", "indexer")["spec"]["triggers"]
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    assert trigger["metadata"]["url"] == f"http://{name}.{namespace}:{service['spec']['ports'][0]['port']}/status"


def test_keda_reads_the_number_of_indexers_wanted_from_the_status() -> None:
    (trigger,) = scaled_object(STATUS)["triggers"]
    operation = OPENAPI["paths"]["/status"]["get"]
    status = OPENAPI["components"]["schemas"]["Status"]
    field = trigger["metadata"]["valueLocation"]
    assert field == "indexers_wanted"
    assert trigger["metadata"]["targetValue"] == "1"
    assert trigger["metadata"]["format"] == "json"
    assert "integer" in str(status["properties"][field])
    assert field in status["required"], "KEDA takes null for an error, and so it should while the number is unknown"
    assert "security" not in operation, "KEDA would have to sign in"
    assert "authenticationRef" not in trigger


@pytest.mark.parametrize("values", [KEDA, STATUS], ids=["prometheus", "status"])
def test_the_first_hit_wakes_an_installation_without_indexers(values: Values) -> None:
    spec = scaled_object(merge(values, {"autoscaling": {"minReplicas": 0}}))
    metadata = spec["triggers"][0]["metadata"]
    assert spec["minReplicaCount"] == 0
    assert metadata.get("activationThreshold", metadata.get("activationTargetValue")) == "0"


def test_status_without_redis_is_an_error_to_keda_and_so_the_fallbacks_business() -> None:
    assert {"200", "503"} <= OPENAPI["paths"]["/status"]["get"]["responses"].keys()
    assert scaled_object(STATUS)["triggers"][0]["metricType"] == "AverageValue", "KEDA has no fallback for others"


def keda(**values: Any) -> Rendering:
    return render(Case("", merge(KEDA, {"autoscaling": {"keda": values}})))


@pytest.mark.parametrize("values", [KEDA, STATUS], ids=["prometheus", "status"])
def test_more_triggers_and_metadata_leave_the_charts_own_trigger_as_it_is(values: Values) -> None:
    (before,) = scaled_object(values)["triggers"]
    cron = {"type": "cron", "metadata": {"timezone": "UTC", "start": "0 8 * * *", "end": "0 9 * * *"}}
    more = {"extraTriggers": [cron], "triggerMetadata": {"unsafeSsl": True, "timeout": 5}, "useCachedMetrics": True}
    own, other = scaled_object(merge(values, {"autoscaling": {"keda": more}}))["triggers"]
    assert other == cron
    assert own["metadata"] == before["metadata"] | {"unsafeSsl": "true", "timeout": "5"}
    assert own == before | {"metadata": own["metadata"], "useCachedMetrics": True}


def test_keda_signs_in_with_an_object_of_others() -> None:
    reference = {"name": "mimir", "kind": "ClusterTriggerAuthentication"}
    rendering = keda(authenticationRef=reference)
    (trigger,) = rendering.one("ScaledObject", "indexer")["spec"]["triggers"]
    assert trigger["authenticationRef"] == reference
    assert not rendering.all("TriggerAuthentication")
    assert "authModes" not in trigger["metadata"], "pod identity and a CA certificate need none"


def test_annotations_of_the_scaled_object_are_kept_beside_the_charts() -> None:
    scaled = keda(takeOverHpa="old", annotations={"autoscaling.keda.sh/paused-replicas": "3"})
    assert scaled.one("ScaledObject", "indexer")["metadata"]["annotations"] == {
        "scaledobject.keda.sh/transfer-hpa-ownership": "true",
        "autoscaling.keda.sh/paused-replicas": "3",
    }


def test_idle_indexers_and_the_first_cooldown_are_kedas_defaults_unless_set() -> None:
    names = {"idleReplicaCount", "initialCooldownPeriod"}
    assert not names & scaled_object(KEDA).keys()
    spec = keda(idleReplicas=0, initialCooldownSeconds=60).one("ScaledObject", "indexer")["spec"]
    assert {name: spec[name] for name in names} == {"idleReplicaCount": 0, "initialCooldownPeriod": 60}


@pytest.mark.parametrize("component", ["api", "indexer"])
def test_horizontal_pod_autoscaler_takes_metrics_as_kubernetes_has_them(component: str) -> None:
    metric = {
        "type": "Object",
        "object": {
            "metric": {"name": "requests"},
            "describedObject": {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "main"},
            "target": {"type": "Value", "value": "2k"},
        },
    }

    def metrics_of(**values: Any) -> list[Manifest]:
        section = {"mode": "hpa", **({"hpa": values} if component == "indexer" else values)}
        rendering = render(
            Case("", {"autoscaling": section} if component == "indexer" else {"api": {"autoscaling": section}})
        )
        assert not [fault for item in rendering.objects for fault in find_faults(item, KUBERNETES)]
        found: list[Manifest] = rendering.one("HorizontalPodAutoscaler", component)["spec"]["metrics"]
        return found

    (cpu,) = metrics_of()
    assert cpu["resource"]["name"] == "cpu"
    assert metrics_of(metrics=[metric]) == [cpu, metric]
    assert metrics_of(metrics=[metric], targetCPUUtilization=None) == [metric]


@pytest.mark.parametrize(("way", "keys"), [("basic", {"username", "password"}), ("bearer", {"bearerToken"})])
def test_keda_signs_in_with_the_secret_of_the_values(way: str, keys: set[str]) -> None:
    prometheus = {**SERVER, "authentication": way, "existingSecret": "yours"}
    rendering = render(Case("", {"autoscaling": {"mode": "keda", "keda": {"prometheus": prometheus}}}))
    (authentication,) = rendering.all("TriggerAuthentication")
    (trigger,) = rendering.one("ScaledObject", "indexer")["spec"]["triggers"]
    assert trigger["authenticationRef"]["name"] == authentication["metadata"]["name"]
    assert trigger["metadata"]["authModes"] == way
    targets = authentication["spec"]["secretTargetRef"]
    assert {target["parameter"] for target in targets} == keys
    assert {target["name"] for target in targets} == {"yours"}


# ── the number that all of them read ─────────────────────────────────────────────────────────────────────────────────


def query_of(values: Values) -> str:
    query: str = scaled_object(values)["triggers"][0]["metadata"]["query"]
    return query


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ({"a1": "4", "a2": "4"}, 4),
        ({"a1": "0", "a2": "0"}, 0),
        ({"a1": "_", "a2": "3"}, 3),
        ({"a1": "_", "a2": "_"}, None),
    ],
    ids=["once however many show it", "nobody", "unknown to one", "unknown to all"],
)
def test_query_takes_the_number_that_the_apis_show(
    tmp_path: Path, shown: dict[str, str], expected: float | None
) -> None:
    ours = {f'hitcounter_indexers_wanted{{job="hc",pod="{pod}"}}': values for pod, values in shown.items()}
    theirs = {'hitcounter_indexers_wanted{job="other",pod="b1"}': "99"}
    samples = [] if expected is None else [Sample("{}", expected)]
    assert_query(tmp_path, query_of(KEDA), {**ours, **theirs}, samples)


def test_query_selects_the_apis_of_the_release_by_the_names_of_their_pods(tmp_path: Path) -> None:
    values = {"autoscaling": {"mode": "keda", "keda": {"prometheus": {"serverAddress": "http://prometheus:9090"}}}}
    pod = render(Case("", values)).one("Deployment", "api")["metadata"]["name"] + "-7d9f8-x2k4q"
    shown = {
        f'hitcounter_indexers_wanted{{namespace="{NAMESPACE}",pod="{pod}"}}': "4",
        f'hitcounter_indexers_wanted{{namespace="{NAMESPACE}",pod="other-hitcounter-api-7d9f8-x2k4q"}}': "9",
        f'hitcounter_indexers_wanted{{namespace="other",pod="{pod}"}}': "9",
    }
    assert_query(tmp_path, query_of(values), shown, [Sample("{}", 4)])


def test_all_scalers_read_the_metric_that_the_api_declares() -> None:
    metric = "hitcounter_indexers_wanted"
    assert metric in {series.name for series in read_metrics("api")}
    assert query_of(KEDA).startswith(f"max({metric}{{")
    hpa = {"autoscaling": {"mode": "hpa", "hpa": {"targetCPUUtilization": None, "externalMetric": {"enabled": True}}}}
    (external,) = render(Case("", hpa)).one("HorizontalPodAutoscaler", "indexer")["spec"]["metrics"]
    assert external["external"]["metric"] == {"name": metric, "selector": {"matchLabels": {"release": RELEASE}}}
    assert external["external"]["target"] == {"type": "AverageValue", "averageValue": "1"}


def test_empty_name_of_the_external_metric_which_was_the_default_once_is_the_default_name() -> None:
    render(Case("", {"autoscaling": {"hpa": {"externalMetric": {"name": ""}}}}))
    hpa = {"targetCPUUtilization": None, "externalMetric": {"enabled": True, "name": ""}}
    rendered = render(Case("", {"autoscaling": {"mode": "hpa", "hpa": hpa}}))
    (external,) = rendered.one("HorizontalPodAutoscaler", "indexer")["spec"]["metrics"]
    assert external["external"]["metric"]["name"] == "hitcounter_indexers_wanted"


def test_api_and_operator_compute_it_by_the_same_settings() -> None:
    formula = {
        "targetUtilization": 0.5,
        "drainTargetSeconds": 45,
        "startSeconds": 7,
        "hitsPerBusySecond": 2_000_000,
    }
    rendering = render(Case("", merge(OPERATOR, {"autoscaling": {"formula": formula}})))
    assert {name: value for name, value in rendering.environment("api").items() if "SCALING" in name} == {
        "HITCOUNTER_SCALING__TARGET_UTILIZATION": "0.5",
        "HITCOUNTER_SCALING__DRAIN_TARGET_SECONDS": "45",
        "HITCOUNTER_SCALING__START_SECONDS": "7",
        "HITCOUNTER_SCALING__HITS_PER_BUSY_SECOND": "2000000",
    }
    (hitcounter,) = rendering.all("HitCounter")
    assert formula.items() <= hitcounter["spec"]["scaling"].items()
