"""The outcome of each request, by id: the record of the client, which the counts are compared with. Pure.

There are three outcomes. *Acknowledged* hits must be counted. *Refused* hits must not be counted. *Unknown* hits (no
response in time, a broken connection, or outcome unknown) may be either, so they widen the range of correct counts.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import orjson

from hitcounter_benchmark.mix import Mix


class Outcome(Enum):
    """Whether the hits of a request must, must not, or may be counted."""

    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Expected:
    """What the count of one id must have grown by."""

    acknowledged: int
    unknown: int


def classify(status: int, body: bytes) -> tuple[Outcome, str]:
    """Return the outcome that an answer stands for, and the name under which errors of this kind are counted.

    A 4xx is a refusal. A 5xx counts as unknown unless its problem+json says that the hit was refused.
    """
    if status == 204:
        return Outcome.ACKNOWLEDGED, "204"
    if status < 500:
        return Outcome.REFUSED, str(status)
    said = _outcome_said(body)
    outcome = Outcome.REFUSED if said == Outcome.REFUSED.value else Outcome.UNKNOWN
    return outcome, f"{status} {said}" if said else str(status)


def _outcome_said(body: bytes) -> str:
    try:
        problem = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    return str(problem.get("outcome", "")) if isinstance(problem, dict) else ""


class Tally:
    """Counts outcomes by request while the load runs, and tells them by id afterwards."""

    def __init__(self, mix: Mix) -> None:
        self._mix = mix
        self.acknowledged = [0] * len(mix.requests)
        """By request, and public: the load adds to it directly, since a call per hit would cost more than the rest."""
        self._unknown: Counter[int] = Counter()
        self.errors: Counter[str] = Counter()
        """Requests that were not acknowledged, by kind."""

    def miss(self, request: int, outcome: Outcome, kind: str) -> None:
        """Book a request that was not acknowledged."""
        self.errors[kind] += 1
        if outcome is Outcome.UNKNOWN:
            self._unknown[request] += 1

    @property
    def acknowledged_hits(self) -> int:
        """Hits that the server answered for."""
        return sum(self.acknowledged) * self._mix.hits_per_request

    @property
    def unknown_hits(self) -> int:
        """Hits that may or may not have been taken."""
        return self._unknown.total() * self._mix.hits_per_request

    def by_id(self) -> dict[str, Expected]:
        """Return what is expected of every id of the mix, also of those that were never sent."""
        acknowledged = self._hits_by_id(self.acknowledged)
        unknown = self._hits_by_id([self._unknown[request] for request in range(len(self.acknowledged))])
        return {name: Expected(acknowledged[name], unknown[name]) for name in self._mix.ids}

    def _hits_by_id(self, times: Sequence[int]) -> Counter[str]:
        hits: Counter[str] = Counter()
        for request, count in enumerate(times):
            if count:
                for name, number in self._mix.hits[request].items():
                    hits[name] += number * count
        return hits
