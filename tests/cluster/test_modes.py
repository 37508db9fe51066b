"""Another scaler while hits arrive: there is one at a time, some indexers are always ready, and nothing is lost."""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tests.chart.cases import merge
from tests.cluster.conftest import Install
from tests.cluster.installation import INDEXERS, RELEASE, SMALL, Installation
from tests.cluster.load import steady_load
from tests.cluster.spike import Watch
from tests.cluster.test_spike import MODES
from tests.support.stack import wait_until

RATE = 100.0
HITS = 500
LONGEST_SECONDS = 1500.0
FEWEST_INDEXERS = 2
NAME = f"{RELEASE}-hitcounter-indexer"
OF_KEDA = [f"horizontalpodautoscaler.autoscaling/keda-hpa-{NAME}", f"scaledobject.keda.sh/{NAME}"]
COURSE: Mapping[str, Sequence[str]] = {
    "none": [],
    "hpa": [f"horizontalpodautoscaler.autoscaling/{NAME}"],
    "keda": OF_KEDA,
    "operator": [],
    "keda-status": OF_KEDA,
    "external": [],
}
"""The modes in turn, each with what scales the indexers then; after the last one comes the first again."""


@pytest.mark.full
@pytest.mark.timeout(LONGEST_SECONDS + 300)
def test_mode_of_scaling_is_switched_under_load(install: Install) -> None:
    installation = install("modes", addons=("prometheus", "keda", "metrics-server"))
    installation.apply(SMALL)
    with (
        steady_load(installation, RATE, LONGEST_SECONDS) as load,
        Watch(installation, load, INDEXERS) as watch,
    ):
        for mode in (*COURSE, "none"):
            installation.apply(SMALL, values=values_of(mode))
            wait_until(lambda: scalers(installation), functools.partial(operator.eq, COURSE[mode]), 120)
            watch.wait_until(lambda look: look.ready == look.wanted >= FEWEST_INDEXERS, 120)
            if mode == "external":
                assert_upgrade_keeps_what_others_set(installation)
            load.wait_for(HITS)
        load.stop()
        load.assert_counted_exactly()
    assert min(look.ready for look in watch.looks) >= 1


def assert_upgrade_keeps_what_others_set(installation: Installation) -> None:
    installation.kubectl("scale", INDEXERS, f"--replicas={FEWEST_INDEXERS + 1}")
    installation.apply(SMALL, values=values_of("external") | {"api": {"podAnnotations": {"note": "upgraded"}}})
    assert len(installation.pods("indexer")) == FEWEST_INDEXERS + 1


def values_of(mode: str) -> dict[str, Any]:
    if mode == "none":
        return {}
    if mode == "external":
        return {"indexer": {"replicas": None}, "autoscaling": {"mode": "external"}}
    _, values = MODES[mode]
    limits = {"minReplicas": FEWEST_INDEXERS, "maxReplicas": FEWEST_INDEXERS + 1}
    return merge({"indexer": {"replicas": None}, "autoscaling": limits}, values)


def scalers(installation: Installation) -> Sequence[str]:
    return sorted(installation.kubectl("get", "hpa,scaledobjects", "--output=name").split())
