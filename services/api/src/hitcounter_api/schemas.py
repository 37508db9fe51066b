"""What goes over HTTP, as OpenAPI describes it. For documentation: the hot path and the reads do without models."""

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
        description=f"What was hit: up to {ID_MAX_BYTES} bytes of UTF-8 (fewer characters, where they are not ASCII).",
        examples=[EXAMPLE_ID],
    ),
]


def _drop_default(schema: dict[str, Any]) -> None:
    """A field that may be left out, but not be null, has no default: null would be one."""
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
        description="When it was hit: RFC 3339 with an offset, cut to the millisecond; from 3 days back to 5 minutes "
        "ahead. Without it: the time of arrival.",
    )
    weight: int = Field(1, ge=1, le=WEIGHT_MAX, description="How much the hit counts for.")
    key: str | SkipJsonSchema[None] = Field(
        None,
        json_schema_extra=_drop_default,
        min_length=1,
        max_length=KEY_MAX_BYTES,
        description=f"Idempotency key, up to {KEY_MAX_BYTES} bytes of UTF-8: hits with the same id, key and time count "
        "once. A UUIDv7 brings its own time; any other key needs a `timestamp`, which a retry repeats.",
    )


class WindowCount(BaseModel):
    """The hits of one window, up to the time of the request."""

    reference: Literal["3 days ago", "2 days ago", "1 day ago", "1 hour ago", "5 minutes ago"] = Field(
        description="Where the window begins."
    )
    count: int = Field(ge=0, description="The hits in it; a hit of weight n is n hits.")


class Counts(BaseModel):
    """How often an id was hit."""

    id: Id
    counts: list[WindowCount] = Field(description="The five windows, the longest first.", min_length=5, max_length=5)


class History(BaseModel):
    """How often an id was hit in each of many steps of time."""

    id: Id
    step_seconds: int = Field(description="The length of a step.", examples=[60, 3600])
    end: str = Field(
        json_schema_extra={"format": "date-time"}, description="When the last step ends: the time of the request."
    )
    counts: list[int] = Field(description="The hits in each step, the oldest first; without gaps.")


class Versions(BaseModel):
    """What runs."""

    hitcounter: str


class Status(BaseModel):
    """The ledger, in hits: accepted = indexed + duplicate + dead + backlog; and the age of the queue."""

    now: str = Field(
        json_schema_extra={"format": "date-time"},
        description="When this was so, by the clock of Redis; as is the as-of.",
    )
    accepted: int = Field(description="Hits ever acknowledged.")
    indexed: int = Field(description="Hits that became countable.")
    duplicate: int = Field(description="Hits that were there already: a redelivery, or a key sent again.")
    dead: int = Field(description="Hits in dead letters.")
    backlog: int = Field(description="Hits accepted and not yet settled: the queue depth.")
    entries: int = Field(ge=0, description="Entries of the stream that hold the backlog.")
    oldest_age_seconds: float = Field(ge=0, description="Age of the oldest unsettled entry; 0 for an empty queue.")
    as_of: str | None = Field(
        json_schema_extra={"format": "date-time"},
        description="Every hit accepted before this time is countable or a dead letter; null before the first indexer "
        "said so.",
    )
    versions: Versions


class HitFault(BaseModel):
    """What is wrong with one hit of a batch."""

    index: int = Field(ge=0, description="Its place in the batch, from 0.")
    detail: str
    field: str | None = None
    value: object = Field(None, description="What was sent, cut short.")
    limit: str | int | None = None


class ProblemDetails(BaseModel):
    """Why a call was not served (RFC 9457)."""

    type: str = Field(description="The kind of problem: urn:hitcounter:problem:…")
    title: str
    status: int = Field(ge=400, le=599)
    detail: str
    field: str | None = Field(None, description="The field at fault.")
    value: object = Field(None, description="What was sent, cut short.")
    limit: str | float | None = Field(None, description="The bound that was crossed.")
    outcome: Literal["refused", "unknown"] | None = Field(
        None,
        description="For hits that were not acknowledged: refused, none was taken; unknown, they may have been taken.",
    )
    errors: list[HitFault] | None = Field(None, description="What is wrong with each bad hit of a batch.")
