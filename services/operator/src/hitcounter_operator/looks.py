"""What one look sees, and what happened between two of them. Pure.

A look is taken every few seconds, and everything in it may be missing or wrong: Redis away, a replica promoted that
lacks the last second, pods that are gone, a clock that was set. What cannot be told from two looks is called unknown,
with the reason; nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import isfinite
from typing import Final

SHORTEST_INTERVAL_SECONDS: Final = 1.0
"""Looks that are closer together tell no rate: a bulk or two more or less would be all the difference."""
LONGEST_INTERVAL_SECONDS: Final = 120.0
"""Looks that are further apart say nothing about now; nor do they if the clock went back, or jumped."""


@dataclass(frozen=True, slots=True)
class IndexerCounters:
    """What one indexer's process has counted since it began: three of its metrics."""

    settled_hits: float
    """`hitcounter_settled_hits_total`, all results together."""
    busy_seconds: float
    """`hitcounter_busy_seconds_total`."""
    retried_documents: float
    """`hitcounter_retried_documents_total`, all reasons together: push-back only, not what an index refuses."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One look. None, like NaN or a negative number, stands for what could not be seen."""

    at_seconds: float
    """When it was, on any clock that the looks share."""
    replicas: int
    """Indexers that the Deployment asks for. Without it there is nothing to decide on."""
    ready_replicas: int
    """Indexers that are ready."""
    accepted_hits: float | None
    """The ledger's `accepted`: all hits ever."""
    backlog_hits: float | None
    """The ledger's `backlog`."""
    indexers: Mapping[str, IndexerCounters] | None
    """The counters by pod; a pod that did not answer is left out."""
    pod_start_seconds: Sequence[float] = ()
    """For each pod that has just become ready for the first time: the seconds since it was created."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """What the next look is compared with."""

    at_seconds: float
    accepted_hits: float | None
    indexers: Mapping[str, IndexerCounters] = field(default_factory=dict)


class Gap(StrEnum):
    """Why a look cannot be compared with the one before."""

    FIRST = "this is the first look"
    MOMENT_AGO = "the last look was a moment ago"
    JUMP = "the clock jumped, or nobody looked for long"


@dataclass(frozen=True, slots=True)
class Interval:
    """What happened since the look before, as far as it can be told."""

    seconds: float
    """Only of use where there is no gap."""
    gap: Gap | None
    arrival_hits_per_second: float | None
    backlog_hits: float | None
    settled_hits: float
    """This and the following by the indexers that were seen at both looks, and did not begin anew meanwhile."""
    busy_seconds: float
    retried_documents: float
    indexers: int
    """How many these were."""
    unknown: tuple[str, ...]
    """What could not be told, each as a clause."""
    baseline: Baseline
    """For the next look."""


def compare(observation: Observation, before: Baseline | None) -> Interval:
    """Return what happened between two looks."""
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
        unknown.append("no indexer told its counters")
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
    """Return the hits accepted since the look before, or why they are unknown."""
    now = _known(observation.accepted_hits)
    if now is None:
        return "the accepted hits are unknown"
    if before is None or before.accepted_hits is None:
        return "the accepted hits were unknown before"
    return now - before.accepted_hits if now >= before.accepted_hits else "the ledger stepped back"


def _find_work(now: Mapping[str, IndexerCounters], before: Mapping[str, IndexerCounters]) -> Iterator[IndexerCounters]:
    """Yield what each process did between two looks; one that has less than before is another one."""
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
