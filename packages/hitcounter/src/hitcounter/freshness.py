"""Measures how long hits take from accepted to countable, from periodic samples of the stream. Pure.

Each sample has the number of hits accepted so far and the as-of, before which all hits are countable. The hits accepted
between two samples form a span. A span is countable when the as-of is later than its second sample, and its age is
measured from that sample. With one sample per second, ages are accurate to about a second, no matter which process
accepted or indexed the hits. All times are by the clock of Redis.

A hit is counted as late as soon as FRESH_SECONDS have passed, so an outage is visible while it lasts.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from hitcounter.ledger import StreamStatus

FRESH_SECONDS: Final = 30.0
"""A hit that is countable after at most this time is fresh. The service level objective is about fresh hits."""
_FOLLOWED_SPANS: Final = 1000
"""Maximum number of late spans that are kept; in a longer outage the oldest are merged."""


@dataclass(frozen=True, slots=True)
class _Span:
    """The hits accepted between two samples."""

    until_ms: int
    hits: int


@dataclass(slots=True)
class FreshnessReport:
    """The result of one sample."""

    fresh_hits: int = 0
    """Hits that became countable in time."""
    late_hits: int = 0
    """Hits that were not countable in time. Each hit is counted once, as fresh or as late."""
    ages_seconds: list[float] = field(default_factory=list)
    """The ages at which spans became countable."""
    lag_seconds: float = 0.0
    """The age of the oldest hit that is not countable yet; 0 if there is none."""


class FreshnessMeter:
    """Follows hits from sample to sample. Hits accepted before the first sample are ignored."""

    def __init__(self) -> None:
        self._accepted: int | None = None
        self._waiting: deque[_Span] = deque()
        self._late: deque[_Span] = deque()

    def observe(self, status: StreamStatus) -> FreshnessReport:
        """Add a sample, which must be later than all before it, and return its result."""
        self._follow(status)
        report = FreshnessReport()
        self._release(status, report)
        self._mark_late(status.now_ms, report)
        oldest = next(iter(self._late or self._waiting), None)
        age_seconds = 0.0 if oldest is None else _age_seconds(oldest, status.now_ms)
        report.lag_seconds = max(age_seconds, status.oldest_age_seconds)
        return report

    def _follow(self, status: StreamStatus) -> None:
        """Add the hits accepted since the last sample; none if the number decreased because Redis lost data."""
        accepted = status.ledger.accepted
        if self._accepted is not None and accepted > self._accepted:
            self._waiting.append(_Span(status.now_ms, accepted - self._accepted))
        self._accepted = accepted

    def _release(self, status: StreamStatus, report: FreshnessReport) -> None:
        """Remove the spans that are countable, and add them to the report."""
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

    def _mark_late(self, now_ms: int, report: FreshnessReport) -> None:
        """Count spans as late that should be countable by now and are not."""
        while self._waiting and _age_seconds(self._waiting[0], now_ms) > FRESH_SECONDS:
            span = self._waiting.popleft()
            report.late_hits += span.hits
            self._late.append(span)
        while len(self._late) > _FOLLOWED_SPANS:
            first, second = self._late.popleft(), self._late.popleft()
            self._late.appendleft(_Span(first.until_ms, first.hits + second.hits))


def _age_seconds(span: _Span, now_ms: int) -> float:
    return max(0, now_ms - span.until_ms) / 1000
