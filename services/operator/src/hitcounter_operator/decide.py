"""How many indexers there should be, decided from one look at the queue, the indexers and their Deployment. Pure.

    desired = demand + catch-up + dead time, rounded up, within minReplicas and maxReplicas

    demand     arrival / (u·μ)                          keeps up with what arrives
    catch-up   backlog / (μ·T)                          drains what is there in T seconds
    dead time  (arrival - ready·μ) · start / (μ·T)      drains what piles up until new ones are at work; never below 0

    arrival  hits accepted per second            u      share of its time that an indexer should be busy
    backlog  hits accepted and not settled       T      seconds in which a backlog should be gone
    μ        hits settled per busy second        start  seconds from an indexer's creation until it is ready

It goes up at once, and down only to the most that was wanted within the cooldown. It stays where it is while it cannot
see. While Elasticsearch pushes back it does not go up, since more indexers would only push harder, and comes down to as
many as Elasticsearch feeds. docs/autoscaling.md tells the reasons.

The module knows no Kubernetes, no Redis and no clock: who calls it looks, and does what was decided.
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
"""Documents sent back, for each hit settled, from which on Elasticsearch pushes back."""
BRAKE_SECONDS: Final = 30.0
"""How long push-back is taken to last after it was seen: who was refused waits before trying again."""
BUSY_SHARE: Final = 0.5
"""Share of its time from which on an indexer shows what it can do. With less to do its bulks are small, and it looks
slower than it is."""
REMEMBERED_BUSY_SECONDS: Final = 60.0
"""Busy seconds, of all indexers, after which what was measured counts half."""
LONGEST_START_SECONDS: Final = 300.0
"""A pod that took longer was waiting for something: a node, an image, a store. The next one will not, or would not
help."""


# ── what is asked for ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Policy:
    """What somebody asked for. Whoever takes it from there has checked it: u is in (0, 1], T and μ are above 0."""

    min_replicas: int = 1
    max_replicas: int = 10
    target_utilization: float = 0.7
    """u: the share of its time that an indexer should be busy."""
    drain_target_seconds: float = 30.0
    """T: the seconds in which a backlog should be gone."""
    cooldown_seconds: float = 180.0
    """Nobody goes for so long after having been wanted."""
    start_seconds: float = 20.0
    """start, until pods have shown theirs."""
    hits_per_busy_second: float = 10_000.0
    """μ, until indexers have shown theirs."""


# ── what is decided ──────────────────────────────────────────────────────────────────────────────────────────────────


class Hold(StrEnum):
    """Why the number is not the one that the terms come to."""

    UNKNOWN = "MetricsUnknown"
    """Something could not be seen: not down, and up only on what could be."""
    PUSH_BACK = "SinkThrottled"
    """Elasticsearch pushes back: not up, and after the cooldown down to as many as it feeds."""
    COOLDOWN = "Cooldown"
    """More was wanted a while ago: not down yet."""


class Limit(StrEnum):
    """Which bound the terms went beyond."""

    MIN = "minReplicas"
    MAX = "maxReplicas"


@dataclass(frozen=True, slots=True)
class Terms:
    """The parts of the formula, each in indexers. Their sum, rounded up, is what is wanted."""

    demand: float
    catch_up: float
    dead_time: float

    @property
    def wanted(self) -> int:
        """The indexers that they come to, before bounds and holds."""
        return ceil(self.demand + self.catch_up + self.dead_time - 1e-9)


@dataclass(frozen=True, slots=True)
class Rates:
    """The numbers behind the terms, for status and metrics."""

    arrival_hits_per_second: float
    backlog_hits: float
    hits_per_busy_second: float
    """μ, as it was learnt so far."""
    start_seconds: float
    """start, as it was learnt so far."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """How many indexers were wanted (or, while that was not known, there) at a time."""

    at_seconds: float
    replicas: int


@dataclass(frozen=True, slots=True)
class Memory:
    """What is carried from look to look. A new one is right after a start: the first look then only takes measure."""

    baseline: Baseline | None = None
    settled_hits: float = 0.0
    """Of the remembered busy seconds; μ is their quotient."""
    busy_seconds: float = 0.0
    start_seconds: float | None = None
    pushed_back_at_seconds: float | None = None
    recommendations: tuple[Recommendation, ...] = ()
    """Those of the cooldown that no later one equals or exceeds, the oldest first."""


@dataclass(frozen=True, slots=True)
class Decision:
    """How many indexers there should be, and all that explains it."""

    replicas: int
    current_replicas: int
    """How many were asked for until now."""
    policy: Policy
    rates: Rates | None
    """None where arrival or backlog is unknown, and so are the terms."""
    terms: Terms | None
    hold: Hold | None
    limit: Limit | None
    unknown: tuple[str, ...]
    """What could not be seen, each as a clause."""
    memory: Memory
    """For the next look."""

    @property
    def is_change(self) -> bool:
        """True where the Deployment has to be told."""
        return self.replicas != self.current_replicas


def explain(decision: Decision) -> str:
    """Return the decision as one line, such as `demand 3.2 + catch-up 4.1 + dead time 0.4 → 8, limited to 6 by …`."""
    parts = []
    if terms := decision.terms:
        total = f"demand {terms.demand:.1f} + catch-up {terms.catch_up:.1f} + dead time {terms.dead_time:.1f}"
        parts.append(f"{total} → {terms.wanted}")
    if decision.hold is Hold.PUSH_BACK:
        parts.append(f"kept to {decision.replicas} while Elasticsearch pushes back")
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

    Bounds hold always, whatever else is unknown. Within them the number never falls while something is unknown, and
    it rises with the arrival rate and with the backlog.
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
    """Return how many are right at this moment, and what speaks against the number that the terms come to."""
    current = _clamp(observation.replicas, policy)
    if _is_braked(learnt, observation.at_seconds):
        return min(current, _count_fed(seen, learnt, policy)), Hold.PUSH_BACK
    wanted = current if terms is None else _clamp(terms.wanted, policy)
    if seen.unknown and wanted <= current:
        return current, Hold.UNKNOWN
    return wanted, None


def _count_fed(seen: Interval, learnt: Memory, policy: Policy) -> int:
    """Return how many indexers Elasticsearch feeds: those that would do at leisure what all of them get done now."""
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
    """Return the recommendations of the cooldown, this one included, without those that a later one makes idle."""
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
    """Return μ. Idle is 0/0 and no news: then the last known one holds."""
    if not memory.busy_seconds:
        return policy.hits_per_busy_second
    return max(1.0, memory.settled_hits / memory.busy_seconds)


# ── learning ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _learn(seen: Interval, observation: Observation, memory: Memory, policy: Policy) -> Memory:
    """Return the memory with what this look tells, but for its recommendation."""
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
        learnt = replace(learnt, recommendations=())  # their times mean nothing any more
    return learnt


def _shows_rate(seen: Interval, memory: Memory, policy: Policy) -> bool:
    """Tell whether the indexers had enough to do to show μ, or were faster than they were thought to be."""
    if not seen.settled_hits or not seen.busy_seconds:
        return False
    is_busy = seen.busy_seconds >= BUSY_SHARE * seen.seconds * seen.indexers
    return is_busy or seen.settled_hits / seen.busy_seconds > _hits_per_busy_second(memory, policy)


def _is_braked(memory: Memory, at_seconds: float) -> bool:
    since = memory.pushed_back_at_seconds
    return since is not None and 0 <= at_seconds - since < BRAKE_SECONDS
