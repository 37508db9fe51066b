"""Decides how many indexers there should be, from the state of the queue, the indexers and their Deployment. Pure.

    desired = demand + catch-up + dead time, rounded up, within minReplicas and maxReplicas

    demand     arrival / (u·μ)                          keeps up with what arrives
    catch-up   backlog / (μ·T)                          drains what is there in T seconds
    dead time  (arrival - ready·μ) · start / (μ·T)      drains what piles up until new ones are at work; never below 0

    arrival  hits accepted per second            u      share of its time that an indexer should be busy
    backlog  hits accepted and not settled       T      seconds in which a backlog should be gone
    μ        hits settled per busy second        start  seconds from an indexer's creation until it is ready

The number rises at once. It falls only to the highest number wanted within the cooldown. It does not change while
metrics are unknown. While Elasticsearch applies backpressure it does not rise, because more indexers would only add
load, and it falls to the number that Elasticsearch can keep up with. docs/autoscaling.md explains why.

This module uses no Kubernetes, no Redis and no clock: the caller reads the state and carries out the decision.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from math import ceil
from statistics import median
from typing import Final

from hitcounter_operator.looks import Baseline, Gap, Interval, Observation, compare

PUSH_BACK_SHARE: Final = 0.01
"""Retried documents per settled hit from which on there is backpressure."""
BRAKE_SECONDS: Final = 30.0
"""How long backpressure is assumed to last after it was seen: indexers wait before they retry."""
BUSY_SHARE: Final = 0.5
"""Minimum busy share of an indexer for a measurement of its rate. At low load its bulks are small, and its rate seems
lower than it is."""
REMEMBERED_BUSY_SECONDS: Final = 60.0
"""After this many busy seconds of all indexers, a measurement counts half."""
LONGEST_START_SECONDS: Final = 300.0
"""A pod that took longer to start was waiting for a node, an image or a store. This says nothing about the next one."""


# ── what is asked for ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Policy:
    """The scaling settings of the resource. The caller has checked them: u is in (0, 1], T and μ are above 0."""

    min_replicas: int = 1
    max_replicas: int = 10
    target_utilization: float = 0.7
    """u: the share of its time that an indexer should be busy."""
    drain_target_seconds: float = 30.0
    """T: the seconds in which a backlog should be gone."""
    cooldown_seconds: float = 180.0
    """How long an indexer stays after it was last wanted."""
    start_seconds: float = 20.0
    """start, until it has been measured."""
    hits_per_busy_second: float = 10_000.0
    """μ, until it has been measured."""


# ── what is decided ──────────────────────────────────────────────────────────────────────────────────────────────────


class Hold(StrEnum):
    """Why the number differs from the sum of the terms."""

    UNKNOWN = "MetricsUnknown"
    """Some metrics are unknown: the number does not fall, and rises only by what is known."""
    PUSH_BACK = "SinkThrottled"
    """Elasticsearch applies backpressure: the number does not rise, and falls later to what it can handle."""
    COOLDOWN = "Cooldown"
    """More indexers were wanted recently: the number does not fall yet."""


class Limit(StrEnum):
    """The bound that the terms exceed."""

    MIN = "minReplicas"
    MAX = "maxReplicas"


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of the formula, each in number of indexers. Their sum, rounded up, is the wanted number."""

    demand: float
    catch_up: float
    dead_time: float

    @property
    def wanted(self) -> int:
        """The sum of the terms, rounded up, before bounds and holds."""
        return ceil(self.demand + self.catch_up + self.dead_time - 1e-9)


@dataclass(frozen=True, slots=True)
class Rates:
    """The inputs of the terms, for status and metrics."""

    arrival_hits_per_second: float
    backlog_hits: float
    hits_per_busy_second: float
    """μ, as measured so far."""
    start_seconds: float
    """start, as measured so far."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The number of indexers wanted at a time (or the existing number, if the wanted one was unknown)."""

    at_seconds: float
    replicas: int


@dataclass(frozen=True, slots=True)
class Memory:
    """The state between decisions. Use a new one after a start: the first observation is then only a baseline."""

    baseline: Baseline | None = None
    settled_hits: float = 0.0
    """Hits settled in the remembered busy seconds; μ is the quotient of both."""
    busy_seconds: float = 0.0
    start_seconds: float | None = None
    pushed_back_at_seconds: float | None = None
    recommendations: tuple[Recommendation, ...] = ()
    """Those within the cooldown that no later one equals or exceeds, the oldest first."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The number of indexers, and everything that explains it."""

    replicas: int
    current_replicas: int
    """The number that the Deployment requests now."""
    policy: Policy
    rates: Rates | None
    """None if arrival or backlog is unknown; then there are no terms either."""
    terms: Terms | None
    hold: Hold | None
    limit: Limit | None
    unknown: tuple[str, ...]
    """What is unknown, each as a clause."""
    memory: Memory
    """The state for the next decision."""

    @property
    def is_change(self) -> bool:
        """True if the Deployment must be scaled."""
        return self.replicas != self.current_replicas


def explain(decision: Decision) -> str:
    """Return the decision as one line, such as `demand 3.2 + catch-up 4.1 + dead time 0.4 → 8, limited to 6 by …`."""
    parts = []
    if terms := decision.terms:
        total = f"demand {terms.demand:.1f} + catch-up {terms.catch_up:.1f} + dead time {terms.dead_time:.1f}"
        parts.append(f"{total} → {terms.wanted}")
    if decision.hold is Hold.PUSH_BACK:
        parts.append(f"kept to {decision.replicas} by backpressure of Elasticsearch")
    elif decision.hold is Hold.UNKNOWN:
        parts.append(f"held at {decision.replicas}: {' and '.join(decision.unknown)}")
    elif decision.hold is Hold.COOLDOWN:
        cooldown = f"{decision.policy.cooldown_seconds:g} s"
        parts.append(f"held at {decision.replicas}: so many were wanted within the last {cooldown}")
    elif decision.limit is not None:
        parts.append(f"limited to {decision.replicas} by {decision.limit}")
    return ", ".join(parts)


# ── deciding ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def decide(observation: Observation, memory: Memory, policy: Policy) -> Decision:
    """Decide on the number of indexers.

    The bounds always apply. Within them, the number never falls while something is unknown, and a higher arrival rate
    or backlog never gives a lower number.
    """
    seen = compare(observation, memory.baseline)
    learnt = _learn(seen, observation, memory, policy)
    rates = _build_rates(seen, learnt, policy)
    terms = None if rates is None else _build_terms(rates, observation.ready_replicas, policy)
    current = _clamp(observation.replicas, policy)
    recommended, hold = _judge(seen, learnt, terms, observation, policy)
    recommendations = _remember(learnt.recommendations, observation.at_seconds, recommended, policy)
    highest = _clamp(recommendations[0].replicas, policy)
    replicas = highest if hold is None else min(current, highest)
    if hold is None and replicas > recommended:
        hold = Hold.COOLDOWN
    return Decision(
        replicas=replicas,
        current_replicas=observation.replicas,
        policy=policy,
        rates=rates,
        terms=terms,
        hold=hold,
        limit=_find_limit(terms, replicas, policy),
        unknown=seen.unknown,
        memory=replace(learnt, recommendations=recommendations),
    )


def _judge(
    seen: Interval, learnt: Memory, terms: Terms | None, observation: Observation, policy: Policy
) -> tuple[int, Hold | None]:
    """Return the recommended number at this moment, and why it differs from the sum of the terms."""
    current = _clamp(observation.replicas, policy)
    if _is_braked(learnt, observation.at_seconds):
        return min(current, _count_fed(seen, learnt, policy)), Hold.PUSH_BACK
    wanted = current if terms is None else _clamp(terms.wanted, policy)
    if seen.unknown and wanted <= current:
        return current, Hold.UNKNOWN
    return wanted, None


def _count_fed(seen: Interval, learnt: Memory, policy: Policy) -> int:
    """Return how many indexers Elasticsearch can keep up with: enough for its current rate at utilization u."""
    if seen.unknown or not seen.settled_hits:
        return policy.max_replicas
    per_indexer = policy.target_utilization * _hits_per_busy_second(learnt, policy)
    return _clamp(ceil(seen.settled_hits / seen.seconds / per_indexer), policy)


def _clamp(replicas: int, policy: Policy) -> int:
    return max(policy.min_replicas, min(replicas, policy.max_replicas))


def _find_limit(terms: Terms | None, replicas: int, policy: Policy) -> Limit | None:
    if terms and terms.wanted > replicas == policy.max_replicas:
        return Limit.MAX
    if terms and terms.wanted < replicas == policy.min_replicas:
        return Limit.MIN
    return None


def _remember(
    earlier: Iterable[Recommendation], at_seconds: float, replicas: int, policy: Policy
) -> tuple[Recommendation, ...]:
    """Return the recommendations within the cooldown and this one, without those that a later one equals or exceeds."""
    since = at_seconds - policy.cooldown_seconds
    kept = (one for one in earlier if one.at_seconds > since and one.replicas > replicas)
    return (*kept, Recommendation(at_seconds, replicas))


# ── the formula ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _build_rates(seen: Interval, learnt: Memory, policy: Policy) -> Rates | None:
    if seen.arrival_hits_per_second is None or seen.backlog_hits is None:
        return None
    return Rates(
        arrival_hits_per_second=seen.arrival_hits_per_second,
        backlog_hits=seen.backlog_hits,
        hits_per_busy_second=_hits_per_busy_second(learnt, policy),
        start_seconds=policy.start_seconds if learnt.start_seconds is None else learnt.start_seconds,
    )


def _build_terms(rates: Rates, ready_replicas: int, policy: Policy) -> Terms:
    rate = rates.hits_per_busy_second
    excess = max(0.0, rates.arrival_hits_per_second - ready_replicas * rate)
    return Terms(
        demand=rates.arrival_hits_per_second / (policy.target_utilization * rate),
        catch_up=rates.backlog_hits / (rate * policy.drain_target_seconds),
        dead_time=excess * rates.start_seconds / (rate * policy.drain_target_seconds),
    )


def _hits_per_busy_second(memory: Memory, policy: Policy) -> float:
    """Return μ; the default of the policy until it has been measured."""
    if not memory.busy_seconds:
        return policy.hits_per_busy_second
    return max(1.0, memory.settled_hits / memory.busy_seconds)


# ── learning ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _learn(seen: Interval, observation: Observation, memory: Memory, policy: Policy) -> Memory:
    """Return the state with what this observation adds, except its recommendation."""
    learnt = replace(memory, baseline=seen.baseline)
    if seen.retried_documents > PUSH_BACK_SHARE * seen.settled_hits:
        learnt = replace(learnt, pushed_back_at_seconds=observation.at_seconds)
    elif _shows_rate(seen, memory, policy):
        kept = 0.5 ** (seen.busy_seconds / REMEMBERED_BUSY_SECONDS)
        learnt = replace(
            learnt,
            settled_hits=memory.settled_hits * kept + seen.settled_hits,
            busy_seconds=memory.busy_seconds * kept + seen.busy_seconds,
        )
    if starts := [start for start in observation.pod_start_seconds if 0 < start <= LONGEST_START_SECONDS]:
        learnt = replace(learnt, start_seconds=median(starts))
    if seen.gap is Gap.JUMP:
        learnt = replace(learnt, recommendations=())  # their times are no longer valid
    return learnt


def _shows_rate(seen: Interval, memory: Memory, policy: Policy) -> bool:
    """Return whether the indexers were busy enough to measure μ, or were faster than the μ measured so far."""
    if not seen.settled_hits or not seen.busy_seconds:
        return False
    is_busy = seen.busy_seconds >= BUSY_SHARE * seen.seconds * seen.indexers
    return is_busy or seen.settled_hits / seen.busy_seconds > _hits_per_busy_second(memory, policy)


def _is_braked(memory: Memory, at_seconds: float) -> bool:
    since = memory.pushed_back_at_seconds
    return since is not None and 0 <= at_seconds - since < BRAKE_SECONDS
