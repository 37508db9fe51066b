"""Which fault happens when, to whom, for how long: drawn from a seed. Pure, so that a seed replays a run.

Kinds are dealt like cards: each once before any comes a second time, so that even a short run meets most of them.
Faults overlap, but never two on the same victim.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from typing import Final, TypeVar

_T = TypeVar("_T")

APIS: Final = ("api-0", "api-1")
INDEXERS: Final = ("indexer-0", "indexer-1", "indexer-2")
REDIS: Final = "redis"
ELASTICSEARCH: Final = "elasticsearch"
CLIENTS: Final = "clients"
EDGES: Final = (
    *(f"{part}/{store}" for part, store in product((*APIS, *INDEXERS), (REDIS, ELASTICSEARCH))),
    *(f"{CLIENTS}/{api}" for api in APIS),
)
"""The ways from our parts to the stores, and from some clients to our parts; each is a faulty wire."""
PUBLISHER: Final = "publisher"
"""Whichever indexer publishes the as-of when the fault begins."""
BULKS: Final = "bulks"
"""What the indexers ask of Elasticsearch; its answers can be spoiled."""
DAYS: Final = ("today", "yesterday")
"""Indices that are written to."""
ELASTICSEARCH_START_SECONDS: Final = 15.0
"""It takes ten or so, in which nothing else that happens to it would be noticed."""


class Kind(StrEnum):
    """What can happen."""

    KILL_API = "kill api"
    KILL_INDEXER = "kill indexer"
    KILL_REDIS = "kill redis"
    KILL_ELASTICSEARCH = "kill elasticsearch"
    REPLACE_API = "replace api"
    REPLACE_INDEXER = "replace indexer"
    REPLACE_REDIS = "replace redis"
    REPLACE_ELASTICSEARCH = "replace elasticsearch"
    PAUSE_API = "pause api"
    PAUSE_INDEXER = "pause indexer"
    PAUSE_REDIS = "pause redis"
    PAUSE_ELASTICSEARCH = "pause elasticsearch"
    CUT = "cut"
    SLOW = "slow"
    BLACKHOLE = "blackhole"
    SWALLOW = "swallow answers"
    FILL_REDIS = "redis at maxmemory"
    FILL_DISK_OF_REDIS = "redis without disk"
    FILL_DISK_OF_ELASTICSEARCH = "elasticsearch without disk"
    BULKS_PUSHED_BACK = "bulks answered 429"
    BULKS_REFUSED = "bulks answered 503"
    BULKS_DENIED = "bulks done, answered 503"
    ITEMS_FAILED = "single items failed"
    ITEMS_DENIED = "single items done, failed"
    WRITES_BLOCKED = "index read-only"
    INDEX_CLOSED = "index closed"
    INDEX_RED = "index red"
    INDEX_REFUSED = "bulks answered 403 for one index"
    CUT_OFF_PUBLISHER = "publisher without elasticsearch"
    DEMOTE_REDIS = "redis demoted in place"
    SET_CLOCK_BACK = "clock of redis set back"


@dataclass(frozen=True, slots=True)
class Rule:
    """To whom a kind of fault may happen, and for how many seconds."""

    victims: Sequence[str]
    least_seconds: float
    max_seconds: float
    rest_seconds: float = 2.0
    """How long the victim is left alone afterwards."""


RULES: Final[Mapping[Kind, Rule]] = {
    Kind.KILL_API: Rule(APIS, 0.0, 2.0),
    Kind.KILL_INDEXER: Rule(INDEXERS, 0.0, 3.0),
    Kind.KILL_REDIS: Rule((REDIS,), 0.0, 2.0),
    Kind.KILL_ELASTICSEARCH: Rule((ELASTICSEARCH,), 0.0, 2.0, rest_seconds=ELASTICSEARCH_START_SECONDS),
    Kind.REPLACE_API: Rule(APIS, 0.0, 1.0),
    Kind.REPLACE_INDEXER: Rule(INDEXERS, 0.0, 1.0),
    Kind.REPLACE_REDIS: Rule((REDIS,), 0.0, 1.0),
    Kind.REPLACE_ELASTICSEARCH: Rule((ELASTICSEARCH,), 0.0, 1.0, rest_seconds=ELASTICSEARCH_START_SECONDS),
    Kind.PAUSE_API: Rule(APIS, 1.0, 4.0),
    Kind.PAUSE_INDEXER: Rule(INDEXERS, 4.0, 8.0),  # beyond the time after which its entries are reclaimed
    Kind.PAUSE_REDIS: Rule((REDIS,), 0.5, 4.0),
    Kind.PAUSE_ELASTICSEARCH: Rule((ELASTICSEARCH,), 1.0, 6.0),
    Kind.CUT: Rule(EDGES, 0.0, 2.0),
    Kind.SLOW: Rule(EDGES, 2.0, 5.0),
    Kind.BLACKHOLE: Rule(EDGES, 1.0, 6.0),
    Kind.SWALLOW: Rule(EDGES, 2.0, 4.0),
    Kind.FILL_REDIS: Rule((REDIS,), 1.0, 4.0),
    Kind.FILL_DISK_OF_REDIS: Rule((REDIS,), 1.0, 4.0),
    Kind.FILL_DISK_OF_ELASTICSEARCH: Rule(DAYS, 2.0, 6.0),
    Kind.BULKS_PUSHED_BACK: Rule((BULKS,), 2.0, 5.0),
    Kind.BULKS_REFUSED: Rule((BULKS,), 2.0, 5.0),
    Kind.BULKS_DENIED: Rule((BULKS,), 2.0, 5.0),
    Kind.ITEMS_FAILED: Rule((BULKS,), 2.0, 5.0),
    Kind.ITEMS_DENIED: Rule((BULKS,), 2.0, 5.0),
    Kind.WRITES_BLOCKED: Rule(DAYS, 2.0, 15.0),
    Kind.INDEX_CLOSED: Rule(DAYS, 2.0, 15.0),
    Kind.INDEX_RED: Rule(DAYS, 4.0, 15.0),
    Kind.INDEX_REFUSED: Rule((BULKS,), 2.0, 8.0),
    Kind.CUT_OFF_PUBLISHER: Rule((PUBLISHER,), 4.0, 10.0),
    Kind.DEMOTE_REDIS: Rule((REDIS,), 4.0, 8.0),
    Kind.SET_CLOCK_BACK: Rule((REDIS,), 2.0, 6.0),
}

CALM_SECONDS: Final = 5.0
"""Nothing happens at the very beginning, which shows what is usual, nor at the very end."""
GAP_SECONDS: Final = 3.0
"""From one fault to the next, on the average."""


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing that happens."""

    at_seconds: float
    kind: Kind
    victim: str
    length_seconds: float

    @property
    def end_seconds(self) -> float:
        """When the fault is taken away; what it hit may need longer."""
        return self.at_seconds + self.length_seconds

    def __str__(self) -> str:
        return f"{self.at_seconds:7.2f} s  {self.kind:<28} {self.victim:<24} for {self.length_seconds:4.1f} s"


def build_schedule(seed: int, duration_seconds: float, *, gap_seconds: float = GAP_SECONDS) -> list[Fault]:
    """Draw the faults of a run, in order; all of them have ended CALM_SECONDS before the run does."""
    draw = random.Random(seed)
    kinds = _deal(draw, list(Kind))
    victims = {kind: _deal(draw, rule.victims) for kind, rule in RULES.items()}
    free_at: dict[str, float] = {}
    hand: list[Kind] = []
    faults: list[Fault] = []
    now = CALM_SECONDS
    while (left_seconds := duration_seconds - CALM_SECONDS - now) > 0:
        hand.append(next(kinds))
        if (found := _find_playable(hand, victims, free_at, now, left_seconds)) is None:
            now = round(now + gap_seconds / 4, 2)
            continue
        kind, victim = found
        hand.remove(kind)
        rule = RULES[kind]
        length = draw.uniform(rule.least_seconds, min(rule.max_seconds, left_seconds))
        faults.append(Fault(now, kind, victim, round(length, 2)))
        free_at[victim] = faults[-1].end_seconds + rule.rest_seconds
        now = round(now + draw.uniform(0.4, 1.6) * gap_seconds, 2)
    return faults


def _find_playable(
    hand: Sequence[Kind],
    victims: Mapping[Kind, Iterator[str]],
    free_at: Mapping[str, float],
    now: float,
    left_seconds: float,
) -> tuple[Kind, str] | None:
    """Return the oldest card of the hand that can be played, with a victim that is left alone at present."""
    for kind in hand:
        rule = RULES[kind]
        if rule.least_seconds > left_seconds:
            continue
        for victim in (next(victims[kind]) for _ in rule.victims):
            if free_at.get(victim, 0.0) <= now:
                return kind, victim
    return None


def _deal(draw: random.Random, cards: Sequence[_T]) -> Iterator[_T]:
    """Deal the cards in random order, all of them before any comes again."""
    while True:
        yield from draw.sample(cards, len(cards))
