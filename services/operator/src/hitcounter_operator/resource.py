"""The resource HitCounter, as somebody writes it (spec) and as the operator answers (status). Pure.

The CustomResourceDefinition is made from these models (crd.py), so that every bound, default and description stands
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
"""A validation in CEL, and what it says when it fails."""
Whole = Annotated[int, Field(json_schema_extra={"format": "int64"})]


class Part(BaseModel):
    """A part of the resource. Unknown fields are left alone: they may be those of a newer version."""

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
        description="Name of their Deployment, in the namespace of this resource.",
    )


class ScalingSpec(Part):
    """How many indexers there should be. What the formula is and how to tune it: docs/autoscaling.md."""

    mode: Mode = Field(
        Mode.OBSERVE,
        description="operator: the operator scales the Deployment. observe: it says what it would do, here and at "
        "/v1/scale (for KEDA), and does nothing. none: it does not think about it.",
    )
    min_replicas: int = Field(
        1,
        ge=1,
        le=1000,
        description="Indexers at least. Those that are there already are what helps in the first seconds of a spike.",
    )
    max_replicas: int = Field(
        10,
        ge=1,
        le=1000,
        description="Indexers at most: as many as Elasticsearch can feed on. More would only wait for it.",
    )
    target_utilization: float = Field(
        0.7, ge=0.05, le=1, description="The share of its time that an indexer should be busy; the rest is room."
    )
    drain_target_seconds: int = Field(30, ge=1, le=3600, description="Seconds in which a backlog should be gone.")
    cooldown_seconds: int = Field(
        180, ge=0, le=86_400, description="No indexer goes for so long after it was wanted. Up it goes at once."
    )
    start_seconds: int = Field(
        20, ge=1, le=300, description="Seconds from the creation of an indexer until it is ready, until pods showed it."
    )
    hits_per_busy_second: int = Field(
        10_000,
        ge=1,
        le=10_000_000,
        description="Hits that one indexer settles in a busy second, until it was measured.",
    )


class IndexSpec(Part):
    """The indices. Their shards and replicas are settings of the installation (HITCOUNTER_INDEX__…)."""

    retention_days: int | None = Field(
        None,
        ge=4,
        le=3650,
        description="Whole days kept, today included; older indices are dropped. Never under 4: the longest window, 3 "
        "days, touches 4 of them. Unset: HITCOUNTER_INDEX__RETENTION_DAYS of the operator.",
    )


class Spec(Part):
    """What is wanted. Where Redis and Elasticsearch are, the operator has from its own environment."""

    indexer: IndexerSpec = Field(description="The indexers.")
    scaling: ScalingSpec = Field(
        ScalingSpec(), description="How many indexers there should be; docs/autoscaling.md explains the formula."
    )
    index: IndexSpec = Field(
        IndexSpec(), description="The indices. Shards and replicas are settings of the installation."
    )


RULES: Final[dict[str, list[Rule]]] = {
    "ScalingSpec": [("self.minReplicas <= self.maxReplicas", "minReplicas must not be above maxReplicas")],
}
"""The validations of each part, by the name of its model."""


# ── status ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class ConditionType(StrEnum):
    """What is said about a HitCounter."""

    READY = "Ready"
    QUEUE_READY = "QueueReady"
    INDEX_READY = "IndexReady"
    AUTOSCALING_ACTIVE = "AutoscalingActive"
    SCALING_LIMITED = "ScalingLimited"
    SINK_THROTTLED = "SinkThrottled"


class Truth(StrEnum):
    """What a condition may be."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(Part):
    """One thing that is so, or is not, and why."""

    # Open, as the API conventions want it: Helm leaves an installed definition alone, and a type that it does not list
    # would have the API server refuse the whole status of a newer operator.
    type: str = Field(
        min_length=1,
        max_length=316,
        pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
        r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
        description="What is spoken of.",
    )
    status: Truth = Field(description="Whether it is so.")
    observed_generation: Whole = Field(description="The generation of the spec that this was found for.")
    last_transition_time: datetime = Field(description="Since when the status is what it is.")
    reason: str = Field(
        min_length=1, max_length=1024, pattern=r"^[A-Za-z]([A-Za-z0-9_]*[A-Za-z0-9])?$", description="Why, in one word."
    )
    message: str = Field(max_length=32_768, description="Why, in a sentence.")


class Status(Part):
    """What was found and done, as of the last time that it was news."""

    observed_generation: Whole | None = Field(None, description="The generation of the spec that this is about.")
    backlog: Whole | None = Field(None, description="Hits accepted and not settled, those in flight included.")
    oldest_age: str | None = Field(None, description="Age of the oldest entry that is not settled, such as 1m5s.")
    dead_letters: Whole | None = Field(None, description="Hits that could never be indexed, over all time.")
    arrival_per_second: Whole | None = Field(None, description="Hits accepted per second.")
    settled_per_second: Whole | None = Field(None, description="Hits settled per second.")
    hits_per_busy_second: Whole | None = Field(
        None, description="Hits that one indexer settles in a busy second, as it was learnt so far."
    )
    start_seconds: Whole | None = Field(
        None, description="Seconds from the creation of an indexer until it is ready, as it was learnt so far."
    )
    replicas: int | None = Field(None, description="Indexers that the Deployment asks for.")
    ready_replicas: int | None = Field(None, description="Indexers that are ready.")
    desired_replicas: int | None = Field(None, description="Indexers that there should be by the last decision.")
    decision: str | None = Field(None, description="The last decision that changed anything, with its terms.")
    last_scale_time: datetime | None = Field(None, description="When the operator last scaled the Deployment.")
    indices: int | None = Field(None, description="Days that have an index.")
    retention_days: int | None = Field(None, description="Whole days that are kept.")
    conditions: list[Condition] = Field(
        [],
        description="What is so and what is not.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )


class HitCounter(BaseModel):
    """One resource, as the API server tells it; the spec unread, for it may be one that this version cannot read."""

    model_config = ConfigDict(frozen=True)

    name: str
    namespace: str
    uid: str
    generation: int
    spec: dict[str, Any]
    status: dict[str, Any]
