"""What `helm uninstall` leaves, and how long it takes."""

from __future__ import annotations

import time

from tests.cluster.installation import RELEASE, Installation
from tests.support.stack import wait_until

LEAVING_SECONDS = 60.0
KEPT = {"persistentvolumeclaims": {f"data-{RELEASE}-elasticsearch-0", f"data-{RELEASE}-redis-0"}}
LEASE = {"leases": {f"{RELEASE}-hitcounter-operator"}}
"""Of the operator, where there is one."""
KINDS = (
    *("configmaps", "deployments", "endpointslices", "horizontalpodautoscalers", "leases"),
    *("networkpolicies", "persistentvolumeclaims", "poddisruptionbudgets", "pods", "replicasets", "rolebindings"),
    *("roles", "secrets", "serviceaccounts", "services", "statefulsets"),
)
OF_EVERY_NAMESPACE = {"kube-root-ca.crt", "default"}


def assert_leaves(installation: Installation, kept: dict[str, set[str]]) -> None:
    """`helm uninstall` takes less than a minute, and nothing is left but what the notes said."""
    begun = time.monotonic()
    installation.helm("uninstall", RELEASE, "--wait")
    left = wait_until(lambda: what_is_left(installation), lambda it: it == kept, LEAVING_SECONDS)
    assert left == kept
    assert time.monotonic() - begun < LEAVING_SECONDS


def what_is_left(installation: Installation) -> dict[str, set[str]]:
    names = {kind: {it["metadata"]["name"] for it in installation.get(kind)} - OF_EVERY_NAMESPACE for kind in KINDS}
    return {kind: found for kind, found in names.items() if found}
