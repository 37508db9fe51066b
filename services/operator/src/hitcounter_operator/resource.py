"""The custom resource HitCounter: its spec (written by users) and its status (written by the operator). Pure.

tools/crd.py builds the CustomResourceDefinition from these models, so every bound, default and description is defined
once. Names are camelCase in Kubernetes and snake_case here.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP: Final = "hitcounter.io"
VERSION: Final = "v1alpha1"
KIND: Final = "HitCounter"
PLURAL: Final = "hitcounters"

Rule = tuple[str, str]
"""A validation rule in CEL, and its error message."""
Whole = Annotated[int, Field(json_schema_extra={"format": "int64"})]


class Part(BaseModel):
    """A part of the resource. Unknown fields are ignored, because a newer version may have written them."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)


# ── spec ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Mode(StrEnum):
    """Who scales the indexers."""

    NONE = "none"
    OBSERVE = "observe"
    OPERATOR = "operator"


class IndexerSpec(Part):
    """The indexers."""

    deployment: str = Field(
        min_length=1,
        max_length=253,
        pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
        description="Name of the indexers' Deployment, in the namespace of this resource.",
    )


class ScalingSpec(Part):
    """Scaling of the indexers. docs/autoscaling.md explains the formula and how to tune it."""

    mode: Mode = Field(
        Mode.OBSERVE,
        description="operator: the operator scales the Deployment. observe: it only reports what it would do. "
        "none: it decides nothing.",
    )
    min_replicas: int = Field(
        1,
        ge=1,
        le=1000,
        description="Minimum number of indexers. In the first seconds of a spike only running indexers help.",
    )
    max_replicas: int = Field(
        10,
        ge=1,
        le=1000,
        description="Maximum number of indexers. Set no more than Elasticsearch can keep up with: additional indexers "
        "would only wait for it.",
    )
    target_utilization: float = Field(
        0.7, ge=0.05, le=1, description="Target share of its time that an indexer is busy; the remainder is reserve."
    )
    drain_target_seconds: int = Field(30, ge=1, le=3600, description="Target time to drain a backlog, in seconds.")
    cooldown_seconds: int = Field(
        180,
        ge=0,
        le=86_400,
        description="Seconds to wait before removing indexers that are no longer needed. Scaling up is immediate.",
    )
    start_seconds: int = Field(
        20,
        ge=1,
        le=300,
        description="Seconds from the creation of an indexer until it is ready.",
    )
    hits_per_busy_second: int = Field(
        10_000,
        ge=1,
        le=10_000_000,
        description="Hits that one indexer settles per busy second. Used until it has been measured.",
    )


class IndexSpec(Part):
    """The daily indices. Their settings are those of the installation (HITCOUNTER_INDEX__…)."""

    retention_days: int | None = Field(
        None,
        ge=4,
        le=3650,
        description="No longer used: the indexers delete expired days, after HITCOUNTER_INDEX__RETENTION_DAYS. If it "
        "differs from that of the operator, the condition IndexReady reports it.",
    )


class Spec(Part):
    """Desired state. The operator reads the connections to Redis and Elasticsearch from its environment variables."""

    indexer: IndexerSpec = Field(description="The indexers.")
    scaling: ScalingSpec = Field(
        ScalingSpec(), description="Scaling of the indexers; docs/autoscaling.md explains the formula."
    )
    index: IndexSpec = Field(
        IndexSpec(), description="The daily indices. Their settings are those of the installation."
    )


RULES: Final[dict[str, list[Rule]]] = {
    "ScalingSpec": [("self.minReplicas <= self.maxReplicas", "minReplicas must not be above maxReplicas")],
}
"""The validation rules of each part, by the name of its model."""


# ── status ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class ConditionType(StrEnum):
    """The types of conditions of a HitCounter."""

    READY = "Ready"
    QUEUE_READY = "QueueReady"
    INDEX_READY = "IndexReady"
    AUTOSCALING_ACTIVE = "AutoscalingActive"
    SCALING_LIMITED = "ScalingLimited"
    SINK_THROTTLED = "SinkThrottled"


class Truth(StrEnum):
    """The possible status of a condition."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(Part):
    """One condition, with its reason."""

    # Not an enum, as the API conventions recommend: Helm does not update an installed CRD, and the API server would
    # reject the whole status of a newer operator if it contained an unlisted type.
    type: str = Field(
        min_length=1,
        max_length=316,
        pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
        r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
        description="Type of the condition.",
    )
    status: Truth = Field(description="Status of the condition.")
    observed_generation: Whole = Field(description="Generation of the spec that this condition was computed for.")
    last_transition_time: datetime = Field(description="Time of the last change of status.")
    reason: str = Field(
        min_length=1,
        max_length=1024,
        pattern=r"^[A-Za-z]([A-Za-z0-9_]*[A-Za-z0-9])?$",
        description="Reason of the status, in one word.",
    )
    message: str = Field(max_length=32_768, description="Reason of the status, in a sentence.")


class Status(Part):
    """Observed state. It is written when it changes noticeably."""

    observed_generation: Whole | None = Field(
        None, description="Generation of the spec that this status was computed for."
    )
    backlog: Whole | None = Field(None, description="Hits accepted and not settled, including those in flight.")
    oldest_age: str | None = Field(None, description="Age of the oldest entry that is not settled, such as 1m5s.")
    dead_letters: Whole | None = Field(
        None, description="Hits that could not be indexed, since the installation began."
    )
    arrival_per_second: Whole | None = Field(None, description="Hits accepted per second.")
    settled_per_second: Whole | None = Field(None, description="Hits settled per second.")
    hits_per_busy_second: Whole | None = Field(
        None, description="Hits that one indexer settles per busy second, as measured so far."
    )
    replicas: int | None = Field(None, description="Number of indexers that the Deployment requests.")
    ready_replicas: int | None = Field(None, description="Number of indexers that are ready.")
    desired_replicas: int | None = Field(None, description="Number of indexers by the last decision.")
    decision: str | None = Field(None, description="Last decision that changed anything, with its terms.")
    last_scale_time: datetime | None = Field(None, description="Time when the operator last scaled the Deployment.")
    indices: int | None = Field(None, description="Number of days that have an index.")
    retention_days: int | None = Field(None, description="Number of days that are kept.")
    conditions: list[Condition] = Field(
        [],
        description="Conditions of this installation.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )


class HitCounter(BaseModel):
    """One resource as the API server returns it. The spec is not parsed, because this version may be unable to."""

    model_config = ConfigDict(frozen=True)

    name: str
    namespace: str
    uid: str
    generation: int
    spec: dict[str, Any] = {}
    status: dict[str, Any] = {}
