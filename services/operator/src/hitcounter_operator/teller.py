"""Reports what happened: a log line and a Kubernetes Event for each note.

If the API server is down, Events are kept, up to a limit, and posted later with their original time. event_limits.py
limits the number of Events.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, Protocol

from hitcounter.errors import TransientError
from hitcounter.logs import get_logger

from hitcounter_operator.event_limits import EventLimits
from hitcounter_operator.metrics import OperatorMetrics
from hitcounter_operator.notes import Note
from hitcounter_operator.resource import HitCounter

_KEPT: Final = 100

log = get_logger()


class Events(Protocol):
    """Where Events are posted."""

    async def post_event(self, event: Mapping[str, Any]) -> None:
        """Post an Event, or increase its count."""


class Teller:
    """Reports what the operator did and found."""

    def __init__(self, events: Events, metrics: OperatorMetrics, *, identity: str) -> None:
        self._events = events
        self._metrics = metrics
        self._limits = EventLimits(identity)
        self._waiting: OrderedDict[str, Mapping[str, Any]] = OrderedDict()
        """By name, so that an Event that is repeated while it waits is posted once."""

    def note(self, about: HitCounter, notes: Iterable[Note], now: datetime) -> None:
        """Log the notes, and queue their Events."""
        for note in notes:
            write = log.warning if note.is_warning else log.info
            write(note.message, reason=note.shown_reason, hitcounter=about.name)
            self._metrics.notes.labels(note.reason.value).inc()
            event = self._limits.build(
                about, reason=note.shown_reason, message=note.message, is_warning=note.is_warning, now=now
            )
            if event is not None:
                self._waiting[event["metadata"]["name"]] = event
            if len(self._waiting) > _KEPT:
                self._waiting.popitem(last=False)

    async def post(self) -> None:
        """Post the waiting Events, the oldest first. An Event that fails stays in the queue."""
        while self._waiting:
            name, event = next(iter(self._waiting.items()))
            try:
                await self._events.post_event(event)
            except TransientError as error:
                log.warning("cannot post an Event", error=str(error), waiting=len(self._waiting))
                return
            del self._waiting[name]
