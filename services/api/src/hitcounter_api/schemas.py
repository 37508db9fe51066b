"""The models of requests and responses in the OpenAPI document. The hot path and the reads do not use them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from hitcounter.hits import DOT_SEGMENTS, ID_MAX_BYTES, KEY_MAX_BYTES, WEIGHT_MAX
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

EXAMPLE_ID = "page/startseite"

Id = Annotated[
    str,
    Field(
        min_length=1,
        max_length=ID_MAX_BYTES,
        description=f"What was hit: up to {ID_MAX_BYTES} bytes of UTF-8 (fewer characters if they are not ASCII).",
        examples=[EXAMPLE_ID],
    ),
]


def _drop_default(schema: dict[str, Any]) -> None:
    """Remove the default null of a field that may be omitted but must not be null."""
    del schema["default"]


class Hit(BaseModel):
    """One hit."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"id": EXAMPLE_ID},
                {"id": EXAMPLE_ID, "weight": 3, "timestamp": "2026-11-23T08:15:30.250Z"},
                {"id": EXAMPLE_ID, "key": "019aaf3c-8d5a-7cc3-9c1b-3f1d2a6b7c8d"},
            ]
        },
    )

    id: Annotated[Id, Field(json_schema_extra={"not": {"enum": list(DOT_SEGMENTS)}})]
    timestamp: Annotated[str, Field(json_schema_extra={"format": "date-time"})] | SkipJsonSchema[None] = Field(
        None,
        json_schema_extra=_drop_default,
        description="When it was hit: RFC 3339 with an offset, truncated to the millisecond, from 3 days ago to 5 "
        "minutes ahead. Default: the time of arrival.",
    )
    weight: int = Field(1, ge=1, le=WEIGHT_MAX, description="How many hits it counts as.")
    key: str | SkipJsonSchema[None] = Field(
        None,
        json_schema_extra=_drop_default,
        min_length=1,
        max_length=KEY_MAX_BYTES,
        description=f"Idempotency key, up to {KEY_MAX_BYTES} bytes of UTF-8. Hits with the same id, key and time count "
        "once. A UUIDv7 contains a time; any other key needs a `timestamp`, which a retry must repeat.",
    )


class WindowCount(BaseModel):
    """The hits of one window, up to the time of the request."""

    reference: Literal["3 days ago", "2 days ago", "1 day ago", "1 hour ago", "5 minutes ago"] = Field(
        description="When the window starts."
    )
    count: int = Field(ge=0, description="The hits in the window; a hit with weight n counts as n hits.")


class Counts(BaseModel):
    """How often an id was hit."""

    id: Id
    counts: list[WindowCount] = Field(description="The five windows, the longest first.", min_length=5, max_length=5)


class History(BaseModel):
    """How often an id was hit in each step of a period."""

    id: Id
    step_seconds: int = Field(description="The length of a step in seconds.", examples=[60, 3600])
    end: str = Field(
        json_schema_extra={"format": "date-time"}, description="When the last step ends: the time of the request."
    )
    counts: list[int] = Field(description="The hits in each step, the oldest first, without gaps.")


class Versions(BaseModel):
    """The running version."""

    hitcounter: str


class Status(BaseModel):
    """The ledger, in hits (accepted = indexed + duplicate + dead + backlog), and the age of the queue."""

    now: str = Field(
        json_schema_extra={"format": "date-time"},
        description="The time of this status. It and `as_of` are by the clock of Redis.",
    )
    accepted: int = Field(description="Hits ever acknowledged.")
    indexed: int = Field(description="Hits that became countable.")
    duplicate: int = Field(description="Hits that were already counted: a redelivery, or a repeated key.")
    dead: int = Field(description="Hits in dead letters.")
    backlog: int = Field(description="Hits accepted and not yet settled: the queue depth.")
    entries: int = Field(ge=0, description="Entries in the stream that contain the backlog.")
    oldest_age_seconds: float = Field(
        ge=0, description="Age of the oldest unsettled entry in seconds; 0 for an empty queue."
    )
    as_of: str | None = Field(
        json_schema_extra={"format": "date-time"},
        description="Completeness time: every hit accepted before it is countable or a dead letter. null until an "
        "indexer has published it.",
    )
    indexers_wanted: int | None = Field(
        ge=0,
        description="Number of indexers that the arrival rate and the backlog need, before bounds, about a second ago. "
        "null while it is unknown; then the number should not change.",
    )
    versions: Versions


class HitFault(BaseModel):
    """The problem with one hit of a batch."""

    index: int = Field(ge=0, description="Its position in the batch, from 0.")
    detail: str
    field: str | None = None
    value: object = Field(None, description="The value that was sent, shortened.")
    limit: str | int | None = None


class ProblemDetails(BaseModel):
    """Why a request failed (RFC 9457)."""

    type: str = Field(description="The kind of problem: urn:hitcounter:problem:…")
    title: str
    status: int = Field(ge=400, le=599)
    detail: str
    field: str | None = Field(None, description="The invalid field.")
    value: object = Field(None, description="The value that was sent, shortened.")
    limit: str | float | None = Field(None, description="The limit that was exceeded.")
    outcome: Literal["refused", "unknown"] | None = Field(
        None,
        description="For hits that were not acknowledged. refused: none was accepted. unknown: they may have been "
        "accepted.",
    )
    errors: list[HitFault] | None = Field(None, description="The problem with each invalid hit of a batch.")
