"""/v1/scale/<namespace>/<name>: the last decision as JSON, for KEDA's metrics-api trigger. Pure.

If the decision is too old, the response is 503, so that KEDA uses its fallback and not an outdated number.
"""

from __future__ import annotations

from collections.abc import Callable

import orjson
from hitcounter.health import Answer

from hitcounter_operator.scaling import ScaleAnswer

_PREFIX = "/v1/scale/"


def answer_scale(path: str, namespace: str, find: Callable[[str], ScaleAnswer | None]) -> Answer | None:
    """Return the response for a path; None if it is not a path of this page.

    Args:
        path: as it was asked for.
        namespace: the operator's.
        find: returns the last decision on a resource of that name.
    """
    if not path.startswith(_PREFIX):
        return None
    asked_namespace, _, name = path.removeprefix(_PREFIX).partition("/")
    answer = find(name) if asked_namespace == namespace else None
    if answer is None:
        body = {"error": f"there is no decision on the HitCounter {name} of {asked_namespace}, or none recent"}
        return 503, "application/json", orjson.dumps(body)
    found: dict[str, object] = {
        "desiredReplicas": answer.desired_replicas,
        "replicas": answer.replicas,
        "mode": answer.mode,
        "decision": answer.decision,
    }
    return 200, "application/json", orjson.dumps(found)
