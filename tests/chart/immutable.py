"""What Kubernetes does not let an upgrade change, and what would lose data or traffic if it did.

python -m tests.chart.immutable > tests/chart/golden/VERSION.yaml      with each release of the chart
"""

from __future__ import annotations

import sys
from typing import Any

import yaml

from tests.chart.rendering import Case, Manifest, Rendering, describe, render

GOLDEN_CASES = {
    "defaults": Case("defaults"),
    "production": Case("production", files=("charts/hitcounter/values-production.yaml",)),
}

STATEFUL_SET_MAY_CHANGE = {
    "replicas",
    "template",
    "updateStrategy",
    "minReadySeconds",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
}
"""Everything else of a StatefulSet stays as it was made: Kubernetes refuses to change it."""


def immutable_of(item: Manifest) -> dict[str, Any]:
    """Return the part of an object that must stay as it is."""
    spec = item.get("spec", {})
    match item["kind"]:
        case "Deployment":
            return {"selector": spec["selector"]}
        case "StatefulSet":
            return {name: value for name, value in spec.items() if name not in STATEFUL_SET_MAY_CHANGE}
        case "Service":
            return {name: spec[name] for name in ("clusterIP", "selector") if name in spec}
        case "Secret":
            return {"type": item["type"]}
        case "RoleBinding":
            return {"roleRef": item["roleRef"]}
    return {}


def collect(rendering: Rendering) -> dict[str, Any]:
    """Return the immutable part of every object that has one, by kind and name."""
    parts = {describe(item): immutable_of(item) for item in rendering.objects}
    return {name: part for name, part in parts.items() if part}


if __name__ == "__main__":
    yaml.safe_dump({name: collect(render(case)) for name, case in GOLDEN_CASES.items()}, sys.stdout)
