"""GET /status: the ledger and the queue."""

from __future__ import annotations

from fastapi import FastAPI
from hitcounter import __version__
from hitcounter.ledger import StreamStatus

from hitcounter_api.openapi import problem_responses
from hitcounter_api.queue_watch import QueueWatch
from hitcounter_api.schemas import Status, Versions
from hitcounter_api.times import format_time


def add_routes(app: FastAPI, watch: QueueWatch) -> None:
    """Add the route that answers the status."""

    @app.get(
        "/status",
        tags=["status"],
        operation_id="readStatus",
        summary="Read the ledger and the queue",
        response_model=Status,
        responses=problem_responses(401, 403, 500, 503),
    )
    async def read_status() -> Status:
        return build_status(await watch.look(), watch.indexers_wanted)


def build_status(status: StreamStatus, indexers_wanted: int | None) -> Status:
    """Return the status as it is shown."""
    ledger = status.ledger
    return Status(
        now=format_time(status.now_ms),
        accepted=ledger.accepted,
        indexed=ledger.indexed,
        duplicate=ledger.duplicate,
        dead=ledger.dead,
        backlog=ledger.backlog,
        entries=status.entries,
        oldest_age_seconds=status.oldest_age_seconds,
        as_of=None if status.as_of_ms is None else format_time(status.as_of_ms),
        indexers_wanted=indexers_wanted,
        versions=Versions(hitcounter=__version__),
    )
