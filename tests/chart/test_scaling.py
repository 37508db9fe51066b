"""Exactly one decides on the number of indexers, and it decides by the formula of the design."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hitcounter_operator.resource import Mode, ScalingSpec

from tests.chart.cases import merge
from tests.chart.rendering import (
    CHART,
    KUBERNETES,
    NAMESPACE,
    ROOT,
    Case,
    Manifest,
    Rendering,
    Values,
    component_of,
    find_tool,
    render,
)
from tests.chart.schemas import find_faults
from tools.docgen import read_metrics

OPENAPI: dict[str, Any] = json.loads((ROOT / "docs/openapi.json").read_text())
SERVER = {"serverAddress": "http://prometheus:9090", "selector": 'job="hc"'}
KEDA: Values = {"autoscaling": {"mode": "keda", "keda": {"prometheus": SERVER}}}
BLIND = " ".join(["NaN"] * 30)
"""A gauge that shows for 7.5 minutes that it does not know, as promtool wants it."""
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
ASKED: Values = {"operator": {"enabled": True}, "autoscaling": {"mode": "keda", "keda": {"source": "operator"}}}


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


def test_keda_asks_the_address_of_the_operator_for_its_number() -> None:
    rendering = render(Case("", ASKED))
    service = rendering.one("Service", "operator")
    (hitcounter,) = rendering.all("HitCounter")
    (trigger,) = rendering.one("ScaledObject", "indexer")["spec"]["triggers"]
    host = f"{service['metadata']['name']}.{NAMESPACE}:{service['spec']['ports'][0]['port']}"
    assert trigger["metadata"]["url"] == f"http://{host}/v1/scale/{NAMESPACE}/{hitcounter['metadata']['name']}"
    assert (trigger["metadata"]["valueLocation"], trigger["metadata"]["targetValue"]) == ("desiredReplicas", "1")
    assert (trigger["type"], trigger["metricType"]) == ("metrics-api", "AverageValue")


def test_operator_has_a_service_only_for_keda(renderings: list[Rendering]) -> None:
    for rendering in renderings:
        services = [item for item in rendering.all("Service") if component_of(item) == "operator"]
        source = rendering.case.values.get("autoscaling", {}).get("keda", {}).get("source")
        assert len(services) == (source == "operator"), rendering.case.name


# ── KEDA ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("values", [KEDA, STATUS, ASKED], ids=["prometheus", "status", "operator"])
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


def test_keda_reads_a_number_that_the_status_always_has() -> None:
    (trigger,) = scaled_object(STATUS)["triggers"]
    operation = OPENAPI["paths"]["/status"]["get"]
    status = OPENAPI["components"]["schemas"]["Status"]
    field = trigger["metadata"]["valueLocation"]
    assert trigger["metadata"]["format"] == "json"
    assert status["properties"][field]["type"] == "integer"
    assert field in status["required"]
    assert "security" not in operation, "KEDA would have to sign in"
    assert "authenticationRef" not in trigger


def test_status_without_redis_is_an_error_to_keda_and_so_the_fallbacks_business() -> None:
    assert {"200", "503"} <= OPENAPI["paths"]["/status"]["get"]["responses"].keys()
    assert scaled_object(STATUS)["triggers"][0]["metricType"] == "AverageValue", "KEDA has no fallback for others"


def test_an_indexer_is_wanted_for_what_one_settles_in_the_drain_target() -> None:
    formula = {"hitsPerBusySecond": 2000, "drainTargetSeconds": 45}
    values = {"autoscaling": {"mode": "keda", "formula": formula, "keda": {"source": "status"}}}
    assert scaled_object(values)["triggers"][0]["metadata"]["targetValue"] == "90000"


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


# ── the formula, computed by the real Prometheus ─────────────────────────────────────────────────────────────────────


def wanted_indexers(folder: Path, series: dict[str, str], expected: float | None, at: str = "10m") -> None:
    """Let promtool evaluate the query over these series, and compare to the third digit; None for no answer at all."""
    query = f"round({scaled_object(KEDA)['triggers'][0]['metadata']['query']}, 0.001)"
    samples = [] if expected is None else [{"labels": "{}", "value": math.floor(expected * 1000 + 0.5) / 1000}]
    test = {
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "15s",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": [{"expr": query, "eval_time": at, "exp_samples": samples}],
            }
        ],
    }
    file = folder / "test.yaml"
    file.write_text(yaml.safe_dump(test))
    answer = subprocess.run([find_tool("promtool"), "test", "rules", file], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def counter(name: str, per_second: float, **labels: str) -> tuple[str, str]:
    return series(name, f"0+{per_second * 15:g}x240", **labels)


def series(name: str, values: str, **labels: str) -> tuple[str, str]:
    pairs = ",".join(f'{label}="{value}"' for label, value in ({"job": "hc"} | labels).items())
    return f"{name}{{{pairs}}}", values


def load(arrival: float, backlog: float, rate: float, busy: float, indexers: int = 1) -> dict[str, str]:
    """Return the series of a steady load: hits per second, hits, hits per second and busy seconds of each indexer."""
    found = [
        counter("hitcounter_accepted_hits_total", arrival / 2, pod="a1"),
        counter("hitcounter_accepted_hits_total", arrival / 2, pod="a2"),
        series("hitcounter_backlog_hits", f"{backlog}x240", pod="a1"),
        series("hitcounter_backlog_hits", f"{backlog}x240", pod="a2"),
    ]
    for number in range(indexers):
        found.append(counter("hitcounter_settled_hits_total", rate * 0.9, pod=f"i{number}", result="indexed"))
        found.append(counter("hitcounter_settled_hits_total", rate * 0.1, pod=f"i{number}", result="duplicate"))
        found.append(counter("hitcounter_busy_seconds_total", busy, pod=f"i{number}"))
    return dict(found)


def formula(arrival: float, backlog: float, rate: float) -> float:
    """The design's own words: u 0.7, T 30 s, start 20 s."""
    return arrival / (0.7 * rate) + backlog / (rate * 30) + arrival * 20 / (rate * 30)


def test_query_is_the_formula_of_the_design(tmp_path: Path) -> None:
    # Two indexers, each busy half of the time, settle 2,000 hits a second each: 4,000 in a busy second.
    wanted_indexers(tmp_path, load(7000, 240_000, 2000, 0.5, indexers=2), formula(7000, 240_000, 4000))


def test_backlog_counts_once_however_many_processes_show_it(tmp_path: Path) -> None:
    wanted_indexers(tmp_path, load(0, 300_000, 1000, 1.0), formula(0, 300_000, 1000))


def test_nothing_to_do_wants_nobody_though_the_rate_is_zero_by_zero(tmp_path: Path) -> None:
    wanted_indexers(tmp_path, load(0, 0, 0, 0), 0)


def test_last_known_rate_counts_after_an_hour_of_idling(tmp_path: Path) -> None:
    idle = load(0, 60_000, 0, 0) | dict(
        [
            series("hitcounter_settled_hits_total", "0+30000x40 1200000x240", pod="i0", result="indexed"),
            series("hitcounter_busy_seconds_total", "0+15x40 600x240", pod="i0"),
        ]
    )
    idle = {name: "0+0x280" if values == "0+0x240" else values.replace("x240", "x280") for name, values in idle.items()}
    wanted_indexers(tmp_path, idle, formula(0, 60_000, 2000), at="65m")


def test_rate_of_the_values_counts_before_there_ever_was_an_indexer(tmp_path: Path) -> None:
    wanted_indexers(tmp_path, load(100, 600_000, 0, 0, indexers=0), formula(100, 600_000, 10_000))


@pytest.mark.parametrize("missing", ["hitcounter_accepted_hits_total", "hitcounter_backlog_hits"])
def test_unknown_numbers_give_no_answer(tmp_path: Path, missing: str) -> None:
    known = {name: values for name, values in load(100, 600, 100, 0.1).items() if not name.startswith(missing)}
    wanted_indexers(tmp_path, known, None)


def test_redis_that_is_away_gives_no_answer_and_the_next_look_at_it_gives_one(tmp_path: Path) -> None:
    backlog = f"600x29 {BLIND} 1200x180"
    away = load(100, 600, 100, 0.1) | dict(series("hitcounter_backlog_hits", backlog, pod=pod) for pod in ("a1", "a2"))
    for at, expected in [("7m", formula(100, 600, 1000)), ("10m", None), ("17m", formula(100, 1200, 1000))]:
        wanted_indexers(tmp_path, away, expected, at)


def test_process_that_cannot_see_redis_hides_nothing_that_another_sees(tmp_path: Path) -> None:
    half_blind = load(100, 600, 100, 0.1) | dict([series("hitcounter_backlog_hits", BLIND, pod="a1")])
    wanted_indexers(tmp_path, half_blind, formula(100, 600, 1000), at="5m")


def test_number_of_indexers_is_held_while_elasticsearch_pushes_back(tmp_path: Path) -> None:
    pushed = load(9000, 900_000, 2000, 1.0, indexers=3) | dict(
        [counter("hitcounter_retried_documents_total", 100, pod="i0", reason="429")]
    )
    wanted_indexers(tmp_path, pushed, 3)


def test_a_document_sent_back_now_and_then_holds_nothing(tmp_path: Path) -> None:
    pushed = load(6000, 0, 2000, 1.0, indexers=3) | dict(
        [counter("hitcounter_retried_documents_total", 1, pod="i0", reason="429")]
    )
    wanted_indexers(tmp_path, pushed, formula(6000, 0, 2000))


def test_other_peoples_series_count_for_nothing(tmp_path: Path) -> None:
    foreign = {name.replace('job="hc"', 'job="other"'): values for name, values in load(9e5, 9e9, 1, 1).items()}
    wanted_indexers(tmp_path, load(700, 0, 1000, 0.5) | foreign, formula(700, 0, 2000))


def test_query_reads_only_metrics_that_the_code_declares() -> None:
    declared = {series.name for service in ("api", "indexer") for series in read_metrics(service)}
    query: str = scaled_object(KEDA)["triggers"][0]["metadata"]["query"]
    used = {word for word in query.replace("{", " ").replace("(", " ").split() if word.startswith("hitcounter_")}
    assert len(used) == 5
    assert used <= declared
