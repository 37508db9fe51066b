"""What a soak does and when, and how long anybody may wait for it. Pure, so that a seed replays a run."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.chaos.schedule import INDEXERS, PUBLISHER, REDIS, Fault, Kind

YESTERDAY: Final = "yesterday"
RECOVERY_SECONDS: Final = 60.0
"""How long after a fault's end the oldest hit may be old, and the as-of behind."""
AS_OF_LIMIT_SECONDS: Final = 60.0
_GAP_SECONDS: Final = 5.0
_FULL_ROUND_SECONDS: Final = 1200.0
_LEAST_ROUND_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class Limit:
    """What a fault may do to those who wait."""

    today_seconds: float
    """How late hits of today may be countable while it lasts, and for a while afterwards."""
    is_waited_for: bool = False
    """Whether the as-of does not advance by design: a hit cannot be indexed before the fault ends."""


LIMITS: Final[Mapping[Kind, Limit]] = {
    Kind.KILL_INDEXER: Limit(60.0),
    Kind.INDEX_RED: Limit(40.0, is_waited_for=True),
    Kind.WRITES_BLOCKED: Limit(30.0, is_waited_for=True),
    Kind.CUT_OFF_PUBLISHER: Limit(60.0),
    Kind.DEMOTE_REDIS: Limit(60.0),
    Kind.SET_CLOCK_BACK: Limit(60.0),
}
"""What a killed indexer had read is taken over after 30 s of silence, and so is a read whose answer was lost in a
failover. What happens to yesterday is nothing to today, but for the bulks, 10 s each, by which a red day is noticed."""

_ROUND: Final = (
    (Kind.KILL_INDEXER, 3.0),
    (Kind.INDEX_RED, 300.0),
    (Kind.WRITES_BLOCKED, 180.0),
    (Kind.CUT_OFF_PUBLISHER, 75.0),
    (Kind.DEMOTE_REDIS, 75.0),
    (Kind.SET_CLOCK_BACK, 40.0),
)
"""The faults of one round of 20 minutes, in seconds."""
_FIXED: Final = frozenset({Kind.KILL_INDEXER, Kind.CUT_OFF_PUBLISHER, Kind.DEMOTE_REDIS})
"""A shorter round shortens the others only: these would show nothing if they ended within a minute."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do."""

    seed: int
    rate: float
    """Hits a second; the machine may get fewer (see Load)."""
    faults: Sequence[Fault]
    duration_seconds: float
    """From the first calm moment on until the load ends."""
    command: str
    """How to do it again."""


def build_soak(seed: int, rate: float, duration_seconds: float) -> Plan:
    """Return a plan of whole rounds, each with every fault, in an order that the seed draws.

    Raises:
        ValueError: not even one round fits into the time.
    """
    if duration_seconds < _LEAST_ROUND_SECONDS:
        raise ValueError(f"a soak takes at least {_LEAST_ROUND_SECONDS:g} seconds; the short form is in the tests")
    draw = random.Random(seed)
    rounds = max(1, int(duration_seconds // _FULL_ROUND_SECONDS))
    faults: list[Fault] = []
    for number in range(rounds):
        start = number * duration_seconds / rounds
        faults += _build_round(draw, start, duration_seconds / rounds)
    command = f"make soak DURATION={duration_seconds:g} RATE={rate:g} SEED={seed}"
    return Plan(seed, rate, faults, duration_seconds, command)


def _build_round(draw: random.Random, start: float, seconds: float) -> list[Fault]:
    gap = RECOVERY_SECONDS + _GAP_SECONDS
    fixed = sum(full for kind, full in _ROUND if kind in _FIXED)
    elastic = sum(full for kind, full in _ROUND if kind not in _FIXED)
    share = min(1.0, (seconds - len(_ROUND) * gap - fixed) / elastic)
    faults = []
    at = start
    for kind, full_seconds in draw.sample(_ROUND, len(_ROUND)):
        length = full_seconds if kind in _FIXED else full_seconds * share
        faults.append(Fault(round(at, 1), kind, _draw_victim(draw, kind), round(length, 1)))
        at += length + gap
    return faults


def build_short(seed: int, rate: float) -> Plan:
    """Return the plan that is part of `make test`: the worst three within less than three minutes."""
    draw = random.Random(seed)
    faults = [
        Fault(0.0, Kind.KILL_INDEXER, _draw_victim(draw, Kind.KILL_INDEXER), 3.0),
        Fault(55.0, Kind.INDEX_RED, YESTERDAY, 48.0),
        Fault(104.0, Kind.DEMOTE_REDIS, REDIS, 70.0),
    ]
    return Plan(seed, rate, faults, 176.0, f"python -m tests.soak --short --rate {rate:g} --seed {seed}")


def _draw_victim(draw: random.Random, kind: Kind) -> str:
    match kind:
        case Kind.KILL_INDEXER:
            return draw.choice(INDEXERS)
        case Kind.CUT_OFF_PUBLISHER:
            return PUBLISHER
        case Kind.DEMOTE_REDIS | Kind.SET_CLOCK_BACK:
            return REDIS
        case _:
            return YESTERDAY
