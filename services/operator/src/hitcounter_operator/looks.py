"""One observation of the installation, and what happened between two observations. Pure.

An observation is made every few seconds, and any part of it can be missing or wrong: Redis is down, a promoted replica
lacks the last second, pods are gone, a clock was set. A value that cannot be computed from two observations is unknown,
with a reason; nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import isfinite
from typing import Final

SHORTEST_INTERVAL_SECONDS: Final = 1.0
"""Observations that are closer together give no useful rate: one or two bulks would dominate it."""
LONGEST_INTERVAL_SECONDS: Final = 120.0
"""Observations that are further apart say nothing about now; neither do they if the clock jumped."""


@dataclass(frozen=True, slots=True)
class IndexerCounters:
    """Three counters of one indexer process since its start."""

    settled_hits: float
    """`hitcounter_settled_hits_total`, the sum over all results."""
    busy_seconds: float
    """`hitcounter_busy_seconds_total`."""
    retried_documents: float
    """`hitcounter_retried_documents_total`, the sum over all reasons: backpressure only, not refused documents."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One observation. None, NaN or a negative number means that a value is not known."""

    at_seconds: float
    """Its time, on a clock that all observations share."""
    replicas: int
    """The number of indexers that the Deployment requests. It is required for a decision."""
    ready_replicas: int
    """Indexers that are ready."""
    accepted_hits: float | None
    """`accepted` of the ledger: all hits ever accepted."""
    backlog_hits: float | None
    """`backlog` of the ledger."""
    indexers: Mapping[str, IndexerCounters] | None
    """The counters by pod, without pods that did not respond."""
    pod_start_seconds: Sequence[float] = ()
    """For each pod that has just become ready for the first time: the seconds since its creation."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """The values that the next observation is compared with."""

    at_seconds: float
    accepted_hits: float | None
    indexers: Mapping[str, IndexerCounters] = field(default_factory=dict)


class Gap(StrEnum):
    """Why an observation cannot be compared with the one before."""

    FIRST = "this is the first observation"
    MOMENT_AGO = "the last observation is too recent"
    JUMP = "the clock jumped, or the last observation is too old"


@dataclass(frozen=True, slots=True)
class Interval:
    """What happened since the previous observation, as far as it is known."""

    seconds: float
    """Valid only if there is no gap."""
    gap: Gap | None
    arrival_hits_per_second: float | None
    backlog_hits: float | None
    settled_hits: float
    """This and the next two values are sums over the indexers that responded both times and did not restart."""
    busy_seconds: float
    retried_documents: float
    indexers: int
    """The number of these indexers."""
    unknown: tuple[str, ...]
    """What is not known, each as a clause."""
    baseline: Baseline
    """For the next observation."""


def compare(observation: Observation, before: Baseline | None) -> Interval:
    """Return what happened between two observations."""
    gap = _find_gap(observation.at_seconds, before)
    seconds = observation.at_seconds - (before.at_seconds if before else 0.0)
    arrived = gap or _count_arrived(observation, before)
    backlog = _known(observation.backlog_hits)
    counters = {pod: one for pod, one in (observation.indexers or {}).items() if _make_sense(one)}
    work = [] if gap or before is None else list(_find_work(counters, before.indexers))
    unknown: list[str] = []
    if isinstance(arrived, str):
        unknown.append(arrived)
    if backlog is None:
        unknown.append("the backlog is unknown")
    if observation.ready_replicas > 0 and not counters:
        unknown.append("no indexer returned its metrics")
    return Interval(
        seconds=seconds,
        gap=gap,
        arrival_hits_per_second=None if isinstance(arrived, str) else arrived / seconds,
        backlog_hits=backlog,
        settled_hits=sum(one.settled_hits for one in work),
        busy_seconds=sum(one.busy_seconds for one in work),
        retried_documents=sum(one.retried_documents for one in work),
        indexers=len(work),
        unknown=tuple(unknown),
        baseline=before
        if before and gap is Gap.MOMENT_AGO
        else Baseline(observation.at_seconds, _known(observation.accepted_hits), counters),
    )


def _find_gap(now_seconds: float, before: Baseline | None) -> Gap | None:
    if before is None:
        return Gap.FIRST
    seconds = now_seconds - before.at_seconds
    if not 0 <= seconds <= LONGEST_INTERVAL_SECONDS:
        return Gap.JUMP
    return Gap.MOMENT_AGO if seconds < SHORTEST_INTERVAL_SECONDS else None


def _count_arrived(observation: Observation, before: Baseline | None) -> float | str:
    """Return the hits accepted since the previous observation, or why they are unknown."""
    now = _known(observation.accepted_hits)
    if now is None:
        return "the accepted hits are unknown"
    if before is None or before.accepted_hits is None:
        return "the accepted hits were unknown before"
    return now - before.accepted_hits if now >= before.accepted_hits else "the ledger went back"


def _find_work(now: Mapping[str, IndexerCounters], before: Mapping[str, IndexerCounters]) -> Iterator[IndexerCounters]:
    """Yield what each process did between two observations. A process whose counters decreased was restarted."""
    for pod in now.keys() & before.keys():
        work = IndexerCounters(
            now[pod].settled_hits - before[pod].settled_hits,
            now[pod].busy_seconds - before[pod].busy_seconds,
            now[pod].retried_documents - before[pod].retried_documents,
        )
        if _make_sense(work):
            yield work


def _known(number: float | None) -> float | None:
    return number if number is not None and isfinite(number) and number >= 0 else None


def _make_sense(counters: IndexerCounters) -> bool:
    numbers = (counters.settled_hits, counters.busy_seconds, counters.retried_documents)
    return all(_known(number) is not None for number in numbers)
