"""Twenty times as many hits for a minute: indexers come, the backlog drains, they go, and every hit counts once."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hitcounter_benchmark.schedule import Stretch

from tests.chart.cases import merge
from tests.cluster.conftest import Install
from tests.cluster.installation import INDEXERS, RELEASE, SMALL, Values
from tests.cluster.leftovers import KEPT, LEASE, assert_leaves
from tests.cluster.load import Load
from tests.cluster.spike import Watch, draw, measure

QUIET, SPIKE = 50.0, 1000.0
"""Hits a second: what two cores bear beside the cluster, the client and up to four indexers."""
BEFORE_SECONDS, SPIKE_SECONDS, AFTER_SECONDS = 40.0, 60.0, 240.0
MOST_INDEXERS = 4
FIGURES = Path(__file__).parents[2] / "dist/spikes"

BEHAVIOR = {"scaleDown": {"stabilizationWindowSeconds": 15}}
"""As soon as the spike is out of all averages: a test has no minutes to wait."""
# One indexer alone cannot keep up with the spike: its bulks are far too small, and one is under way at a time.
SLOW: Values = {
    "api": {"replicas": 1},
    "indexer": {"replicas": None, "config": {"indexer": {"bulk_max_documents": 3, "bulks_in_flight": 1}}},
    "autoscaling": {
        "minReplicas": 1,
        "maxReplicas": MOST_INDEXERS,
        "formula": {"hitsPerBusySecond": 400, "drainTargetSeconds": 20, "startSeconds": 5},
        "behavior": merge(
            BEHAVIOR, {"scaleDown": {"policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]}}
        ),
        "keda": {"fallback": {"replicas": 1}},
    },
}
PROMETHEUS = "http://prometheus-operated.monitoring.svc:9090"
KEDA, OPERATOR = {"mode": "keda"}, {"enabled": True}
COOLDOWN = {"cooldownSeconds": 15}
OWN_SCALER = {
    "apiVersion": "keda.sh/v1alpha1",
    "kind": "ScaledObject",
    "metadata": {"name": "mine"},
    "spec": {
        "scaleTargetRef": {"name": f"{RELEASE}-hitcounter-indexer"},
        "minReplicaCount": 1,
        "maxReplicaCount": MOST_INDEXERS,
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": BEHAVIOR}},
        "triggers": [
            {
                "type": "metrics-api",
                "metricType": "AverageValue",
                "metadata": {
                    "url": f"http://{RELEASE}-hitcounter-api.{{{{ .Release.Namespace }}}}:8001/status",
                    "valueLocation": "indexers_wanted",
                    "targetValue": "1",
                },
            }
        ],
    },
}
"""What somebody may write for the mode `external`."""
MODES: Mapping[str, tuple[Sequence[str], Values]] = {
    "keda": (
        ["prometheus", "keda"],
        {"autoscaling": {**KEDA, "keda": {"prometheus": {"serverAddress": PROMETHEUS}}}},
    ),
    "operator": ([], {"operator": OPERATOR, "autoscaling": {"mode": "operator", "operator": COOLDOWN}}),
    "keda-status": (["keda"], {"autoscaling": {**KEDA, "keda": {"source": "status"}}}),
    "external": (["keda"], {"autoscaling": {"mode": "external"}, "extraObjects": [OWN_SCALER]}),
    "hpa": (
        ["metrics-server"],
        # More than an idle one takes, and less than one that is busy.
        {
            "autoscaling": {"mode": "hpa", "hpa": {"targetCPUUtilization": 60}},
            "indexer": {"resources": {"requests": {"cpu": "300m"}}},
        },
    ),
}
"""For each way to scale, the add-ons that it needs and its values."""
ALWAYS = ("keda", "operator")


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("mode", [pytest.param(it, marks=() if it in ALWAYS else pytest.mark.full) for it in MODES])
def test_spike_is_absorbed_and_every_hit_counts_once(install: Install, mode: str) -> None:
    addons, values = MODES[mode]
    installation = install(f"spike-{mode}", addons=addons)
    installation.apply(SMALL, values=merge(SLOW, values))
    profile = (
        Stretch(BEFORE_SECONDS, QUIET),
        Stretch(SPIKE_SECONDS, SPIKE),
        Stretch(AFTER_SECONDS, QUIET),
    )
    end = BEFORE_SECONDS + SPIKE_SECONDS
    with (
        Load(installation, profile) as load,
        Watch(installation, load, INDEXERS) as watch,
    ):
        watch.wait_until(lambda look: look.ready > 1, end + 60)
        watch.wait_until(lambda look: look.seconds > end and look.backlog < QUIET, end + 120)
        watch.wait_until(lambda look: look.seconds > end and look.wanted == look.ready == 1, AFTER_SECONDS)
        load.stop()
        load.assert_counted_exactly()
    figures = measure(watch.looks, load, BEFORE_SECONDS, end)
    FIGURES.mkdir(parents=True, exist_ok=True)
    (FIGURES / f"{mode}.svg").write_text(draw(f"A spike absorbed by the mode {mode}", watch.looks))
    (FIGURES / f"{mode}.json").write_text(json.dumps(dataclasses.asdict(figures), indent=2))
    assert figures.peak_backlog > SPIKE
    assert not load.client.complaints
    assert_leaves(installation, KEPT | (LEASE if "operator" in values else {}))
