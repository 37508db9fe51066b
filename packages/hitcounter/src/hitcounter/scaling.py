"""Computes how many indexers are wanted, from the ledger alone. Pure.

    wanted = demand + catch-up + dead time, rounded up

    demand     arrival / (u·μ)                        keeps up with what arrives
    catch-up   backlog / (μ·T)                        drains what is there in T seconds
    dead time  (arrival - settled) · start / (μ·T)    drains what piles up until new indexers are ready; never below 0

    arrival  hits accepted per second            u      share of its time that an indexer should be busy
    settled  hits settled per second             T      seconds in which a backlog should be gone
    backlog  hits accepted and not settled       start  seconds from an indexer's creation until it is ready
    μ        hits settled per busy second

Every process that reads the ledger computes the same number. It is unknown (None), and not 0, when it cannot be
computed: after a start, while Redis does not answer, when the ledger went back because Redis failed over, or when a
clock jumped. While Elasticsearch applies backpressure, the number is not higher than what Elasticsearch keeps up with.
Whoever scales adds bounds and decides how fast the number may change. docs/autoscaling.md explains why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import ceil
from typing import Final

from hitcounter.ledger import StreamStatus

RATE_SECONDS: Final = 4.0
"""Rates are measured over this time. One or two bulks would dominate the rate of a shorter time."""
SHORTEST_SECONDS: Final = 0.5
"""No rate is computed over less than this."""
LONGEST_SECONDS: Final = 120.0
"""Samples that are further apart say nothing about now."""
CLOCK_TOLERANCE_SECONDS: Final = 1.0
"""If the clock of Redis and ours disagree by more than this about the time between two samples, a clock jumped."""
PUSH_BACK_SHARE: Final = 0.01
"""From this many documents sent back per settled hit there is backpressure."""
BRAKE_SECONDS: Final = 30.0
"""How long backpressure is assumed to last after it was seen: indexers wait before they retry."""
BUSY_SHARE: Final = 0.5
"""Minimum busy share of the indexers for a measurement of their rate. At low load bulks are small, and an indexer seems
slower than it is."""
LEAST_BUSY_SECONDS: Final = 0.5
"""Minimum busy time for a measurement."""
REMEMBERED_BUSY_SECONDS: Final = 60.0
"""After this many busy seconds of all indexers, a measurement counts half."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings of the formula. The caller has checked them: u is in (0, 1], T and μ are above 0."""

    target_utilization: float = 0.7
    """u: the share of its time that an indexer should be busy."""
    drain_target_seconds: float = 30.0
    """T: the seconds in which a backlog should be gone."""
    start_seconds: float = 20.0
    """start: the seconds from an indexer's creation until it is ready."""
    hits_per_busy_second: float = 10_000.0
    """μ, until it has been measured."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The state of the stream at a time."""

    status: StreamStatus
    seen_seconds: float
    """The time on a monotonic clock of this process. Rates use the clock of Redis; this one shows if it jumped."""

    def seconds_since(self, earlier: Sample) -> float:
        """Return the time between two samples by the clock of Redis."""
        return (self.status.now_ms - earlier.status.now_ms) / 1000


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of the formula, each in number of indexers."""

    demand: float
    catch_up: float
    dead_time: float

    @property
    def wanted(self) -> int:
        """Their sum, rounded up. Any hit that waits needs an indexer."""
        total = self.demand + self.catch_up + self.dead_time
        return max(ceil(total - 1e-9), 1 if total else 0)


@dataclass(frozen=True, slots=True)
class Rates:
    """The inputs of the terms."""

    arrival_hits_per_second: float
    settled_hits_per_second: float
    backlog_hits: int
    hits_per_busy_second: float
    """μ, as measured so far."""


class Reason(StrEnum):
    """Where the number comes from."""

    FORMULA = "Formula"
    """It is the sum of the terms."""
    PUSH_BACK = "SinkThrottled"
    """Elasticsearch applies backpressure: the number is what it keeps up with, or unknown while it accepts nothing."""
    UNKNOWN = "MetricsUnknown"
    """It is unknown, because the rates are."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered from sample to sample. Begin with an empty one."""

    samples: tuple[Sample, ...] = ()
    """The samples of the last RATE_SECONDS, and one before them; the oldest first."""
    learnt_from: Sample | None = None
    """The sample up to which μ has been measured."""
    settled_hits: float = 0.0
    """Hits settled in the remembered busy seconds; μ is the quotient of both."""
    busy_seconds: float = 0.0
    pushed_back_at_seconds: float | None = None
    """When backpressure was last seen, on our clock."""
    stalled_at_seconds: float | None = None
    """When indexers were last seen at work on a backlog while nothing was settled, on our clock."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The number of indexers, and everything that explains it."""

    indexers_wanted: int | None
    """Without bounds; 0 if nothing arrives and nothing waits; None if it is unknown, and then nothing should change."""
    reason: Reason
    unknown: str
    """Why it is unknown, as a clause; empty if it is known."""
    terms: Terms | None
    """None if the rates are unknown."""
    rates: Rates | None
    memory: Memory
    """For the next call."""


def recommend(sample: Sample | None, memory: Memory, policy: Policy) -> Recommendation:
    """Return how many indexers are wanted. The sample is None if Redis does not answer."""
    if sample is None:
        # What the ledger says after an outage must not be averaged over the outage.
        return _report_unknown("Redis does not answer", replace(memory, samples=(), learnt_from=None))
    if gap := _find_gap(sample, memory.samples):
        return _report_unknown(gap, replace(memory, samples=(sample,), learnt_from=sample))
    before = _choose_earlier(memory.samples, sample)
    if sample.seconds_since(before) < SHORTEST_SECONDS:
        return _report_unknown("the last observation is too recent", memory)
    memory = _remember(_learn(memory, before, sample, policy), before, sample)
    rates = _measure(before, sample, memory, policy)
    terms = _build_terms(rates, policy)
    wanted, is_braked = terms.wanted, _is_recent(memory.pushed_back_at_seconds, sample)
    is_stalled = not rates.settled_hits_per_second and (is_braked or _is_recent(memory.stalled_at_seconds, sample))
    if wanted and is_stalled:
        return Recommendation(None, Reason.PUSH_BACK, "Elasticsearch accepts nothing", terms, rates, memory)
    if not is_braked or not wanted:
        return Recommendation(wanted, Reason.FORMULA, "", terms, rates, memory)
    fed = ceil(rates.settled_hits_per_second / (policy.target_utilization * rates.hits_per_busy_second))
    reason = Reason.PUSH_BACK if fed < wanted else Reason.FORMULA
    return Recommendation(min(wanted, fed), reason, "", terms, rates, memory)


def explain(recommendation: Recommendation) -> str:
    """Return the recommendation as one line, such as `demand 3.2 + catch-up 4.1 + dead time 0.4 → 8`."""
    parts = []
    if terms := recommendation.terms:
        total = f"demand {terms.demand:.1f} + catch-up {terms.catch_up:.1f} + dead time {terms.dead_time:.1f}"
        parts.append(f"{total} → {terms.wanted}")
    if recommendation.indexers_wanted is None:
        parts.append(f"held: {recommendation.unknown}")
    elif recommendation.reason is Reason.PUSH_BACK:
        parts.append(f"kept to {recommendation.indexers_wanted} by backpressure of Elasticsearch")
    return ", ".join(parts)


def _report_unknown(clause: str, memory: Memory) -> Recommendation:
    return Recommendation(None, Reason.UNKNOWN, clause, None, None, memory)


# ── samples ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _find_gap(sample: Sample, earlier: Sequence[Sample]) -> str:
    """Return why the sample cannot be compared with earlier ones; empty if it can."""
    if not earlier:
        return "this is the first observation"
    if _went_back(sample.status, earlier[-1].status):
        return "the ledger went back"
    if sample.status.ledger.backlog < 0:
        return "the backlog is unknown"
    seconds, seen_seconds = sample.seconds_since(earlier[0]), sample.seen_seconds - earlier[0].seen_seconds
    is_one_clock = abs(seconds - seen_seconds) <= CLOCK_TOLERANCE_SECONDS
    if not is_one_clock or not 0 <= sample.seconds_since(earlier[-1]) <= LONGEST_SECONDS:
        return "the clock jumped, or the last observation is too old"
    return ""


def _went_back(now: StreamStatus, before: StreamStatus) -> bool:
    """Return whether a counter is lower than before: Redis lost what it had not saved, or was emptied."""
    return (
        now.ledger.accepted < before.ledger.accepted
        or now.ledger.settled < before.ledger.settled
        or now.work.busy_ms < before.work.busy_ms
        or now.work.hits < before.work.hits
        or now.work.pushed_back < before.work.pushed_back
    )


def _choose_earlier(earlier: Sequence[Sample], sample: Sample) -> Sample:
    """Return the newest sample that is at least RATE_SECONDS old; the oldest if there is none."""
    old = [one for one in earlier if sample.seconds_since(one) >= RATE_SECONDS]
    return old[-1] if old else earlier[0]


def _remember(memory: Memory, before: Sample, sample: Sample) -> Memory:
    """Return the memory with the sample, unless it is too close to the last, and without those that are not needed."""
    kept = [one for one in memory.samples if one.status.now_ms >= before.status.now_ms]
    if sample.seconds_since(kept[-1]) >= SHORTEST_SECONDS:
        kept.append(sample)
    return replace(memory, samples=tuple(kept))


# ── the formula ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _measure(before: Sample, sample: Sample, memory: Memory, policy: Policy) -> Rates:
    seconds = sample.seconds_since(before)
    ledger, earlier = sample.status.ledger, before.status.ledger
    return Rates(
        arrival_hits_per_second=(ledger.accepted - earlier.accepted) / seconds,
        settled_hits_per_second=(ledger.settled - earlier.settled) / seconds,
        backlog_hits=ledger.backlog,
        hits_per_busy_second=_hits_per_busy_second(memory, sample, policy),
    )


def _build_terms(rates: Rates, policy: Policy) -> Terms:
    drained = rates.hits_per_busy_second * policy.drain_target_seconds
    excess = max(0.0, rates.arrival_hits_per_second - rates.settled_hits_per_second)
    return Terms(
        demand=rates.arrival_hits_per_second / (policy.target_utilization * rates.hits_per_busy_second),
        catch_up=rates.backlog_hits / drained,
        dead_time=excess * policy.start_seconds / drained,
    )


def _is_recent(seconds: float | None, sample: Sample) -> bool:
    return seconds is not None and sample.seen_seconds - seconds < BRAKE_SECONDS


# ── learning ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _learn(memory: Memory, before: Sample, sample: Sample, policy: Policy) -> Memory:
    """Return the memory with what the sample shows about backpressure and, every RATE_SECONDS, about μ."""
    if _is_pushed_back(before, sample):
        memory = replace(memory, pushed_back_at_seconds=sample.seen_seconds)
    if _is_stalled(before, sample):
        memory = replace(memory, stalled_at_seconds=sample.seen_seconds)
    since = memory.learnt_from or before
    if sample.seconds_since(since) < RATE_SECONDS:
        return replace(memory, learnt_from=since)
    memory = replace(memory, learnt_from=sample)
    hits = sample.status.work.hits - since.status.work.hits
    busy_seconds = (sample.status.work.busy_ms - since.status.work.busy_ms) / 1000
    if not hits or busy_seconds < LEAST_BUSY_SECONDS or _is_pushed_back(since, sample):
        return memory
    # Those that did this work are no longer there, or Redis does not let us count them: there was at least one.
    indexers = max(1, sample.status.indexers)
    is_busy = busy_seconds >= BUSY_SHARE * sample.seconds_since(since) * indexers
    if not is_busy and hits / busy_seconds <= _hits_per_busy_second(memory, sample, policy):
        return memory
    kept = 0.5 ** (busy_seconds / REMEMBERED_BUSY_SECONDS)
    return replace(
        memory,
        settled_hits=memory.settled_hits * kept + hits,
        busy_seconds=memory.busy_seconds * kept + busy_seconds,
    )


def _is_pushed_back(before: Sample, sample: Sample) -> bool:
    documents = sample.status.work.pushed_back - before.status.work.pushed_back
    return documents > PUSH_BACK_SHARE * _settled_between(before, sample)


def _is_stalled(before: Sample, sample: Sample) -> bool:
    """Return whether indexers worked on what waited, and settled none of it."""
    is_at_work = sample.status.work.busy_ms > before.status.work.busy_ms
    return is_at_work and before.status.ledger.backlog > 0 and not _settled_between(before, sample)


def _settled_between(before: Sample, sample: Sample) -> int:
    return sample.status.ledger.settled - before.status.ledger.settled


def _hits_per_busy_second(memory: Memory, sample: Sample, policy: Policy) -> float:
    """Return μ: as measured by this process, or else over the life of the ledger, or else the default."""
    if memory.busy_seconds:
        return max(1.0, memory.settled_hits / memory.busy_seconds)
    work = sample.status.work
    if work.hits and work.busy_ms >= REMEMBERED_BUSY_SECONDS * 1000:
        return max(1.0, work.hits * 1000 / work.busy_ms)
    return policy.hits_per_busy_second
