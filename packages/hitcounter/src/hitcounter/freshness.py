"""How long hits took from accepted to countable, told from looks at the stream. Pure.

Each look says how many hits were accepted so far, and up to which time all of them are countable: the as-of. The hits
that came between two looks make a span. It is countable once the as-of lies behind the later of the two, and its age is
counted from there. So with a look a second ages are right to about a second, whoever accepted the hits and whoever
indexed them, and all by one clock: that of Redis.

A late hit is known to be late as soon as its time is over: an outage shows while it lasts, not when it ends.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from hitcounter.ledger import StreamStatus

FRESH_SECONDS: Final = 30.0
"""A hit that is countable by then is fresh: what the service level objective is about."""
_FOLLOWED_SPANS: Final = 1000
"""Late spans that are told apart; in a longer outage the oldest are taken together."""


@dataclass(frozen=True, slots=True)
class _Span:
    """The hits accepted between two looks."""

    until_ms: int
    hits: int


@dataclass(slots=True)
class FreshnessReport:
    """What one look has decided."""

    fresh_hits: int = 0
    """Hits that became countable in time."""
    late_hits: int = 0
    """Hits whose time is over, countable or not. Each hit is fresh or late once."""
    ages_seconds: list[float] = field(default_factory=list)
    """The ages at which spans became countable."""
    lag_seconds: float = 0.0
    """The age of the oldest hit that is not countable yet; 0 for none."""


class FreshnessMeter:
    """Follows hits from look to look. Hits from before the first look are not followed."""

    def __init__(self) -> None:
        self._accepted: int | None = None
        self._waiting: deque[_Span] = deque()
        self._late: deque[_Span] = deque()

    def look(self, status: StreamStatus) -> FreshnessReport:
        """Take in one look, later than those before it, and return what it has decided."""
        self._follow(status)
        report = FreshnessReport()
        self._release(status, report)
        self._judge(status.now_ms, report)
        oldest = next(iter(self._late or self._waiting), None)
        age_seconds = 0.0 if oldest is None else _age_seconds(oldest, status.now_ms)
        report.lag_seconds = max(age_seconds, status.oldest_age_seconds)
        return report

    def _follow(self, status: StreamStatus) -> None:
        """Begin to follow what was accepted since the last look; nothing where Redis has lost some."""
        accepted = status.ledger.accepted
        if self._accepted is not None and accepted > self._accepted:
            self._waiting.append(_Span(status.now_ms, accepted - self._accepted))
        self._accepted = accepted

    def _release(self, status: StreamStatus, report: FreshnessReport) -> None:
        """Let go of what is countable."""
        as_of_ms = 0 if status.as_of_ms is None else status.as_of_ms
        for spans, is_late in ((self._late, True), (self._waiting, False)):
            while spans and spans[0].until_ms < as_of_ms:
                span = spans.popleft()
                age_seconds = _age_seconds(span, status.now_ms)
                report.ages_seconds.append(age_seconds)
                if is_late:
                    continue
                if age_seconds <= FRESH_SECONDS:
                    report.fresh_hits += span.hits
                else:
                    report.late_hits += span.hits

    def _judge(self, now_ms: int, report: FreshnessReport) -> None:
        """Call late what should be countable by now and is not."""
        while self._waiting and _age_seconds(self._waiting[0], now_ms) > FRESH_SECONDS:
            span = self._waiting.popleft()
            report.late_hits += span.hits
            self._late.append(span)
        while len(self._late) > _FOLLOWED_SPANS:
            first, second = self._late.popleft(), self._late.popleft()
            self._late.appendleft(_Span(first.until_ms, first.hits + second.hits))


def _age_seconds(span: _Span, now_ms: int) -> float:
    return max(0, now_ms - span.until_ms) / 1000
