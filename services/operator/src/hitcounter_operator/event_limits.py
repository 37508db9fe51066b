"""Rate limit for Kubernetes Events, with the rules and numbers of client-go's EventCorrelator. Pure.

Without a limit, a condition that flips at each turn would create an object in the API server each time. The rules are:
a repeated message increases the count of its Event; more than ten different messages with one reason within ten minutes
become one Event; each resource may have a burst of 25 Events, and then one every five minutes. The log and the metrics
contain everything.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from hitcounter_operator.objects import build_event, write_time
from hitcounter_operator.resource import HitCounter

SIMILAR_MAX: Final = 10
SIMILAR_WINDOW: Final = timedelta(minutes=10)
BURST: Final = 25
REFILL_SECONDS: Final = 300.0
COMBINED: Final = "(combined from similar events): "
_SERIES_MAX: Final = 1000
"""Maximum number of Events that are remembered; the one that was not repeated for the longest time is forgotten first.
"""

_Kind = tuple[str, str, bool]
"""The resource's uid, the reason, and whether it is a warning."""


@dataclass(slots=True)
class _Bucket:
    """The token bucket of a resource."""

    tokens: float
    filled_at: datetime


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
        self._buckets: dict[str, _Bucket] = {}
        self._similar: dict[_Kind, _Similar] = {}
        self._series: OrderedDict[tuple[_Kind, str], Mapping[str, Any]] = OrderedDict()

    def build(
        self, about: HitCounter, *, reason: str, message: str, is_warning: bool, now: datetime
    ) -> Mapping[str, Any] | None:
        """Return the Event: an earlier one with a higher count if it repeats that one; None if there are too many.

        Args:
            about: the resource.
            reason: the reason, in one word.
            message: the message, a sentence.
            is_warning: whether an operator should check it.
            now: when it happened.
        """
        kind = (about.uid, reason, is_warning)
        is_combined = self._is_combined(kind, message, now)
        key = (kind, "" if is_combined else message)
        if not self._take_token(about.uid, now):
            return None
        event = build_event(
            about,
            name=f"{about.name}.{self._make_name()}",
            reason=reason,
            message=COMBINED + message if is_combined else message,
            is_warning=is_warning,
            now=now,
            reporter=self._reporter,
        )
        if (before := self._series.get(key)) is not None:
            event |= {
                "metadata": before["metadata"],
                "firstTimestamp": before["firstTimestamp"],
                "lastTimestamp": write_time(now),
                "count": before["count"] + 1,
            }
        self._series[key] = event
        self._series.move_to_end(key)
        if len(self._series) > _SERIES_MAX:
            self._series.popitem(last=False)
        return event

    def _is_combined(self, kind: _Kind, message: str, now: datetime) -> bool:
        similar = self._similar.get(kind)
        if similar is None or not timedelta(0) <= now - similar.since <= SIMILAR_WINDOW:
            similar = self._similar[kind] = _Similar(now)
        if len(similar.messages) < SIMILAR_MAX:
            similar.messages.add(message)
        return message not in similar.messages

    def _take_token(self, uid: str, now: datetime) -> bool:
        bucket = self._buckets.get(uid)
        if bucket is None:
            self._buckets = {uid: (bucket := _Bucket(BURST, now))}  # there is one resource at a time
        since_seconds = max(0.0, (now - bucket.filled_at).total_seconds())
        bucket.tokens = min(BURST, bucket.tokens + since_seconds / REFILL_SECONDS)
        bucket.filled_at = now
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True
