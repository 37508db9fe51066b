"""The application as a whole."""

from __future__ import annotations

from hitcounter.entries import Durability
from hitcounter.health import Readiness
from hitcounter.metrics import QueueMetrics
from hitcounter_api.app import create_app
from hitcounter_api.intake import Intakes
from hitcounter_api.queue_watch import QueueWatch
from hitcounter_api.reads import Reads

from tests.unit.api.fakes import FakeReader, FakeStream, build_intake, build_metrics


async def test_no_middleware_pretends_to_guard_what_the_hot_path_passes_by() -> None:
    metrics, registry = build_metrics()
    watch = QueueWatch(FakeStream(), QueueMetrics(registry), Readiness())
    app = create_app(
        intakes=Intakes({Durability.MEMORY: build_intake(FakeStream())}, Durability.MEMORY),
        reads=Reads(FakeReader(), watch, metrics, max_concurrent=1, max_wait_seconds=1, remembered_ids=1),
        watch=watch,
        metrics=metrics,
    )
    reason = "POST /analytics never passes a middleware: put it into HotPath.take and the routes (see routes/track.py)"
    assert app.user_middleware == [], reason
