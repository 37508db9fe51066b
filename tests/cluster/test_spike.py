"""Twenty times as many hits for a minute: indexers come, the backlog drains, they go, and every hit counts once."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hitcounter_benchmark.schedule import Stretch
from hitcounter_cluster.addons import install as install_addon
from hitcounter_cluster.node import Node

from tests.cluster.conftest import Install
from tests.cluster.installation import RELEASE, SMALL, Values
from tests.cluster.load import Load
from tests.cluster.spike import Watch, draw, measure

QUIET, SPIKE = 50.0, 1000.0
"""Hits a second: what two cores bear beside the cluster, the client and up to four indexers."""
BEFORE_SECONDS, SPIKE_SECONDS, AFTER_SECONDS = 40.0, 60.0, 240.0
MOST_INDEXERS = 4
FIGURES = Path(__file__).parents[2] / "dist/spikes"

# One indexer alone cannot keep up with the spike: its bulks are far too small, and one is under way at a time.
SLOW: Values = {
    "api": {"replicas": 1},
    "indexer": {"replicas": None, "config": {"indexer": {"bulk_max_documents": 3, "bulks_in_flight": 1}}},
    "autoscaling": {
        "minReplicas": 1,
        "maxReplicas": MOST_INDEXERS,
        "formula": {"hitsPerBusySecond": 400, "drainTargetSeconds": 20, "startSeconds": 5},
        # As soon as the spike is out of all averages: a test has no minutes to wait.
        "behavior": {
            "scaleDown": {
                "stabilizationWindowSeconds": 15,
                "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
            }
        },
        "keda": {"fallback": {"replicas": 1}},
    },
}
PROMETHEUS = "http://prometheus-operated.monitoring.svc:9090"
MODES: Mapping[str, tuple[Sequence[str], Values]] = {
    "keda": (
        ["prometheus", "keda"],
        {"autoscaling": {"mode": "keda", "keda": {"prometheus": {"serverAddress": PROMETHEUS}}}},
    ),
    "operator": (
        [],
        {"operator": {"enabled": True}, "autoscaling": {"mode": "operator", "operator": {"cooldownSeconds": 15}}},
    ),
}
"""For each way to scale, the add-ons that it needs and its values."""


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("mode", MODES)
def test_spike_is_absorbed_and_every_hit_counts_once(node: Node, install: Install, mode: str) -> None:
    addons, values = MODES[mode]
    for addon in addons:
        install_addon(node, addon)
    installation = install(f"spike-{mode}")
    installation.apply(SMALL, values=merge(SLOW, values))
    profile = (
        Stretch(BEFORE_SECONDS, QUIET, QUIET),
        Stretch(SPIKE_SECONDS, SPIKE, SPIKE),
        Stretch(AFTER_SECONDS, QUIET, QUIET),
    )
    end = BEFORE_SECONDS + SPIKE_SECONDS
    with (
        Load(installation, profile) as load,
        Watch(installation, load, f"deployment/{RELEASE}-hitcounter-indexer") as watch,
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


def merge(under: Values, over: Values) -> Values:
    """Return the values of both; the second wins."""
    both = dict(under)
    for name, value in over.items():
        below = both.get(name)
        both[name] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return both
