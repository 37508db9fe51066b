"""What KEDA is answered."""

from __future__ import annotations

import orjson
from hitcounter_operator.resource import Mode
from hitcounter_operator.scale_page import answer_scale
from hitcounter_operator.scaling import ScaleAnswer

ANSWER = ScaleAnswer(
    desired_replicas=8, replicas=3, mode=Mode.OBSERVE, decision="demand 8.0 → 8", decided_at_seconds=0.0
)


def find(name: str) -> ScaleAnswer | None:
    return ANSWER if name == "count" else None


def test_last_decision_is_a_json_object_with_the_number_at_its_top() -> None:
    answer = answer_scale("/v1/scale/shop/count", "shop", find)
    assert answer is not None
    assert answer[0] == 200
    assert orjson.loads(answer[2]) == {
        "desiredReplicas": 8,
        "replicas": 3,
        "mode": "observe",
        "decision": "demand 8.0 → 8",
    }


def test_without_a_recent_decision_it_is_an_error_so_that_the_fallback_begins() -> None:
    for path in ("/v1/scale/shop/other", "/v1/scale/elsewhere/count", "/v1/scale/shop"):
        answer = answer_scale(path, "shop", find)
        assert answer is not None
        assert answer[0] == 503


def test_other_paths_are_not_of_this_page() -> None:
    assert answer_scale("/v1/other", "shop", find) is None
