"""What a run has shown: for people, and as JSON."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Any, Final

_SHOWN_COMPLAINTS: Final = 8


@dataclass(frozen=True, slots=True)
class FaultRow:
    """All faults of one kind."""

    kind: str
    times: int
    seconds: float
    """How long they lasted, added up."""
    worst_recovery_seconds: float
    """From the end of a fault until all that was accepted before that end was countable."""


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of one run."""

    seed: int
    duration_seconds: float
    rate: float
    faults: Sequence[FaultRow]
    hits: Mapping[str, int]
    """Totals of the record, the ledger and the counts."""
    samples: Mapping[str, int]
    """How often what was looked at."""
    track_ms: Mapping[str, float]
    """Percentiles of acknowledged requests outside of faults."""
    checks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """What each check complains of; nothing where it holds."""

    @property
    def is_good(self) -> bool:
        """True where no check complains."""
        return not any(self.checks.values())

    @property
    def failed_checks(self) -> list[str]:
        """The names of the checks that complain."""
        return [name for name, complaints in self.checks.items() if complaints]

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return {
            "seed": self.seed,
            "duration_seconds": self.duration_seconds,
            "rate": self.rate,
            "is_good": self.is_good,
            "faults": [
                {
                    "kind": row.kind,
                    "times": row.times,
                    "seconds": round(row.seconds, 2),
                    "worst_recovery_seconds": round(row.worst_recovery_seconds, 2),
                }
                for row in self.faults
            ],
            "hits": dict(self.hits),
            "samples": dict(self.samples),
            "track_ms": {name: round(value, 2) for name, value in self.track_ms.items()},
            "checks": {name: list(complaints) for name, complaints in self.checks.items()},
        }

    def render(self) -> str:
        """Return the report as text; its last line begins with the seed."""
        times = sum(row.times for row in self.faults)
        lines = [
            "",
            f"{'fault':<30} {'times':>5} {'seconds':>8} {'worst recovery':>15}",
            *(
                f"{row.kind:<30} {row.times:>5} {row.seconds:>7.1f}s {row.worst_recovery_seconds:>14.1f}s"
                for row in self.faults
            ),
            f"{f'{len(self.faults)} kinds':<30} {times:>5}",
            "",
            *(f"{name:<46} {number:>12,}" for name, number in self.hits.items()),
            "",
            *(f"{name:<46} {number:>12,}" for name, number in self.samples.items()),
            *(f"{f'Track outside of faults, {name}':<46} {value:>9.1f} ms" for name, value in self.track_ms.items()),
            "",
            *(self._render_check(name, complaints) for name, complaints in self.checks.items()),
            "",
            f"seed {self.seed}: {self._verdict()}",
        ]
        return "\n".join(lines)

    def _verdict(self) -> str:
        if self.is_good:
            return "no acknowledged hit is lost, none is counted twice"
        return f"NOT GOOD: {', '.join(self.failed_checks)}"

    @staticmethod
    def _render_check(name: str, complaints: Sequence[str]) -> str:
        if not complaints:
            return f"  holds   {name}"
        shown = "".join(f"\n            {complaint}" for complaint in complaints[:_SHOWN_COMPLAINTS])
        more = len(complaints) - _SHOWN_COMPLAINTS
        return f"  BROKEN  {name}{shown}" + (f"\n            and {more} more" if more > 0 else "")


def build_rows(faults: Sequence[tuple[str, float, float]]) -> list[FaultRow]:
    """Return a row for each kind, from (kind, seconds it lasted, seconds of recovery) of each fault."""
    by_kind: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for kind, seconds, recovery_seconds in faults:
        by_kind[kind].append((seconds, recovery_seconds))
    return [
        FaultRow(kind, len(rows), sum(seconds for seconds, _ in rows), max(recovery for _, recovery in rows))
        for kind, rows in sorted(by_kind.items())
    ]


def find_recovery_seconds(end_ms: int, freshness: Sequence[tuple[int, int]]) -> float:
    """Return how long after the time the as-of had reached it, from (when, as-of) of each look; inf if it never did."""
    for seen_ms, as_of_ms in freshness:
        if as_of_ms >= end_ms:
            return max(0.0, (seen_ms - end_ms) / 1000)
    return float("inf")


def find_percentiles(
    sent_seconds: Sequence[float], took_seconds: Sequence[float], busy: Sequence[tuple[float, float]]
) -> dict[str, float]:
    """Return p50 and p99, in milliseconds, of requests that were meant to leave in none of the busy times."""
    calm = [
        took * 1000
        for sent, took in zip(sent_seconds, took_seconds, strict=True)
        if not any(begin <= sent <= end for begin, end in busy)
    ]
    if len(calm) < 2:
        return {}
    cuts = quantiles(calm, n=100)
    return {"p50": cuts[49], "p99": cuts[98]}
