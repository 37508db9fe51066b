"""Reports notices: a log line and a Kubernetes Event for each, limited as client-go's EventCorrelator limits them.

Without a limit, a condition that flips at each turn would create an object in the API server each time. So a repeated
message increases the count of its Event; more than ten different messages with one reason within ten minutes become
one Event; each resource may have a burst of 25 Events, and then one every five minutes. The log and the metrics contain
everything. If the API server is down, Events are kept, up to a limit, and posted later with their original time.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from hitcounter.errors import TransientError
from hitcounter.logs import get_logger

from hitcounter_operator.cluster import Cluster, ClusterUnavailable
from hitcounter_operator.metrics import OperatorMetrics
from hitcounter_operator.resource import GROUP, KIND, VERSION, HitCounter
from hitcounter_operator.state import Notice

SIMILAR_MAX: Final = 10
SIMILAR_WINDOW: Final = timedelta(minutes=10)
BURST: Final = 25
REFILL_SECONDS: Final = 300.0
COMBINED: Final = "(combined from similar events): "
_SERIES_MAX: Final = 1000
"""Maximum number of Events that are remembered; the one not repeated for the longest time is forgotten first."""
_WAITING_MAX: Final = 100
_POST_SECONDS: Final = 5.0
"""After this no further Event is posted in a turn: a slow API server must not delay the next decision and the lease."""
_INVALID: Final = (400, 413, 422)
"""With these the API server rejects the Event itself, so another attempt fails as well."""
_MESSAGE_MAX_BYTES: Final = 1000
"""Kubernetes takes 1,024 bytes; the ellipsis needs some of them."""

_Series = tuple[str, str, bool]
"""The resource's uid, the reason, and whether it is a warning."""

log = get_logger()


@dataclass(slots=True)
class _Similar:
    """The messages of one reason since the first of them."""

    since: datetime
    messages: set[str] = field(default_factory=set)


class EventLimits:
    """Builds Events, and remembers those that it has built.

    Args:
        reporter: the reporting instance.
        make_name: returns a unique suffix for the name of an Event.
    """

    def __init__(self, reporter: str, make_name: Callable[[], str] = lambda: secrets.token_hex(8)) -> None:
        self._reporter = reporter
        self._make_name = make_name
        self._uid = ""
        self._tokens = 0.0
        self._filled_at = datetime.min.replace(tzinfo=UTC)
        self._similar: dict[_Series, _Similar] = {}
        self._events: OrderedDict[tuple[_Series, str], Mapping[str, Any]] = OrderedDict()

    def build(self, about: HitCounter, notice: Notice, now: datetime) -> Mapping[str, Any] | None:
        """Return the Event: an earlier one with a higher count if it repeats that one; None if there are too many."""
        series = (about.uid, notice.shown_reason, notice.is_warning)
        is_combined = self._is_combined(series, notice.message, now)
        key = (series, "" if is_combined else notice.message)
        if not self._take_token(about.uid, now):
            return None
        event = self._build(about, notice, COMBINED if is_combined else "", now)
        if (before := self._events.get(key)) is not None:
            kept = {name: before[name] for name in ("metadata", "firstTimestamp")}
            event |= {**kept, "count": before["count"] + 1}
        self._events[key] = event
        self._events.move_to_end(key)
        if len(self._events) > _SERIES_MAX:
            self._events.popitem(last=False)
        return event

    def _is_combined(self, series: _Series, message: str, now: datetime) -> bool:
        similar = self._similar.get(series)
        if similar is None or not timedelta(0) <= now - similar.since <= SIMILAR_WINDOW:
            similar = self._similar[series] = _Similar(now)
        if len(similar.messages) < SIMILAR_MAX:
            similar.messages.add(message)
        return message not in similar.messages

    def _take_token(self, uid: str, now: datetime) -> bool:
        if uid != self._uid:  # there is one resource at a time
            self._uid, self._tokens, self._filled_at = uid, BURST, now
        since_seconds = max(0.0, (now - self._filled_at).total_seconds())
        self._tokens = min(BURST, self._tokens + since_seconds / REFILL_SECONDS)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _build(self, about: HitCounter, notice: Notice, prefix: str, now: datetime) -> dict[str, Any]:
        moment = f"{now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{about.name}.{self._make_name()}", "namespace": about.namespace},
            "involvedObject": {
                "apiVersion": f"{GROUP}/{VERSION}",
                "kind": KIND,
                "name": about.name,
                "namespace": about.namespace,
                "uid": about.uid,
            },
            "reason": notice.shown_reason,
            "message": _shorten(prefix + notice.message),
            "type": "Warning" if notice.is_warning else "Normal",
            "source": {"component": "hitcounter-operator"},
            "reportingComponent": "hitcounter.io/operator",
            "reportingInstance": self._reporter,
            "firstTimestamp": moment,
            "lastTimestamp": moment,
            "count": 1,
        }


def _shorten(message: str) -> str:
    encoded = message.encode()
    if len(encoded) <= _MESSAGE_MAX_BYTES:
        return message
    return encoded[:_MESSAGE_MAX_BYTES].decode(errors="ignore") + "…"


class Recorder:
    """Reports what the operator did and found."""

    def __init__(self, cluster: Cluster, metrics: OperatorMetrics, *, identity: str) -> None:
        self._cluster = cluster
        self._metrics = metrics
        self._limits = EventLimits(identity)
        self._waiting: OrderedDict[str, Mapping[str, Any]] = OrderedDict()
        """By name, so that an Event that is repeated while it waits is posted once."""

    def record(self, about: HitCounter, notices: Iterable[Notice], now: datetime) -> None:
        """Log the notices, and queue their Events."""
        for notice in notices:
            write = log.warning if notice.is_warning else log.info
            write(notice.message, reason=notice.shown_reason, hitcounter=about.name)
            self._metrics.notes.labels(notice.reason.value).inc()
            if (event := self._limits.build(about, notice, now)) is not None:
                self._waiting[event["metadata"]["name"]] = event
            if len(self._waiting) > _WAITING_MAX:
                self._waiting.popitem(last=False)

    async def post(self) -> None:
        """Post the waiting Events, the oldest first. An Event that fails stays in the queue, unless it is invalid."""
        end = time.monotonic() + _POST_SECONDS
        while self._waiting:
            name, event = next(iter(self._waiting.items()))
            try:
                await self._cluster.post_event(event)
            except TransientError as error:
                if isinstance(error, ClusterUnavailable) and error.status in _INVALID:
                    log.warning("Kubernetes rejects an Event", error=str(error), reason=event["reason"])
                    del self._waiting[name]
                    continue
                log.warning("cannot post an Event", error=str(error), waiting=len(self._waiting))
                return
            del self._waiting[name]
            if time.monotonic() >= end:
                return
