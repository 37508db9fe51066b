"""Compares the results with what two cores must reach. Pure.

A goal is met if the median of the rounds meets it; the minimum and the maximum are reported, too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hitcounter_benchmark.comparison import ANSWERING, BATCHES, ONE_ID, OPEN_LOOP, PATH, TRACK, Line, name_reads
from hitcounter_benchmark.tables import Table, show

Lines = Mapping[str, Line]
"""The lines of a suite, or of one round of it, by name."""


@dataclass(frozen=True, slots=True)
class Goal:
    """One figure, where it is found, and what it has to be."""

    text: str
    read: Callable[[Lines], float | None]
    bound: float
    is_floor: bool
    """Whether the figure must be at least the bound; else at most."""
    form: str

    def is_met(self, seen: float) -> bool:
        """Whether the figure is good enough."""
        return seen >= self.bound if self.is_floor else seen <= self.bound


def tabulate_goals(medians: Sequence[Line], rounds: Sequence[Sequence[Line]]) -> Table:
    """Return a row for each goal that was measured: what was seen, how far it spread, and whether it is met."""
    of_all, of_each = _by_name(medians), [_by_name(lines) for lines in rounds]
    rows = []
    for goal in GOALS:
        seen = goal.read(of_all)
        if seen is not None:
            each = [value for lines in of_each if (value := goal.read(lines)) is not None]
            spread = f"{show(min(each), goal.form)} to {show(max(each), goal.form)}"
            bound = f"{'≥' if goal.is_floor else '≤'} {show(goal.bound, goal.form)}"
            rows.append([goal.text, bound, show(seen, goal.form), spread, "yes" if goal.is_met(seen) else "NO"])
    return [["", "goal", "seen", "least to most", "met"], *rows]


def _by_name(lines: Sequence[Line]) -> Lines:
    return {line.name: line for line in lines}


def _of(name: str, read: Callable[[Line], float | None]) -> Callable[[Lines], float | None]:
    """Return a reading of one line."""

    def find(lines: Lines) -> float | None:
        return read(lines[name]) if name in lines else None

    return find


def _ratio_to_path(read: Callable[[Line], float | None]) -> Callable[[Lines], float | None]:
    """Return a reading of what one id does, as a multiple of what many do."""

    def divide(lines: Lines) -> float | None:
        many, one = (read(lines[name]) if name in lines else None for name in (PATH, ONE_ID))
        return one / many if one is not None and many else None

    return divide


def _count_wrong(lines: Lines) -> float:
    return sum(line.wrong for line in lines.values())


def _peak(process: str) -> Callable[[Lines], float | None]:
    """Return a reading of the most memory that a process ever had."""

    def find(lines: Lines) -> float | None:
        peaks = [line.peak_memory_mb[process] for line in lines.values() if process in line.peak_memory_mb]
        return max(peaks, default=None)

    return find


_AT_LEAST: Final = True
_AT_MOST: Final = False

GOALS: Final[Sequence[Goal]] = (
    Goal("Track alone, as a multiple of bare", _of(TRACK, lambda line: line.accepted_ratio), 0.9, _AT_LEAST, ".2f"),
    Goal("whole path, sustained: of bare", _of(PATH, lambda line: line.sustained_ratio), 0.65, _AT_LEAST, ".2f"),
    Goal("whole path, sustained: hits/s", _of(PATH, lambda line: line.sustained), 15_000, _AT_LEAST, ",.0f"),
    Goal("one id, of many ids: hits/s", _ratio_to_path(lambda line: line.sustained), 1.0, _AT_LEAST, ".2f"),
    Goal("one id, of many ids: documents", _ratio_to_path(lambda line: line.documents_per_hit), 0.2, _AT_MOST, ".2f"),
    Goal("batches of 1,000, sustained: hits/s", _of(BATCHES, lambda line: line.sustained), 60_000, _AT_LEAST, ",.0f"),
    Goal("open loop at 10,000/s: p90, ms", _of(OPEN_LOOP, lambda line: line.p90_ms), 5, _AT_MOST, ".2f"),
    Goal("open loop at 10,000/s: p99, ms", _of(OPEN_LOOP, lambda line: line.p99_ms), 20, _AT_MOST, ".2f"),
    Goal("open loop: fresh, p99, ms", _of(OPEN_LOOP, lambda line: line.freshness_p99_ms), 2000, _AT_MOST, ",.0f"),
    Goal("open loop: errors", _of(OPEN_LOOP, lambda line: line.errors), 0, _AT_MOST, ",.0f"),
    Goal("loads with a wrong count", _count_wrong, 0, _AT_MOST, ".0f"),
    Goal("reads of a cold id: p90, ms", _of(name_reads(3), lambda line: line.read_p90_ms), 25, _AT_MOST, ".1f"),
    Goal(
        "reads of 5 million: p90, ms", _of(name_reads(5_000_000), lambda line: line.read_p90_ms), 100, _AT_MOST, ".1f"
    ),
    Goal("memory of the API, MB", _peak(ANSWERING), 120, _AT_MOST, ".0f"),
    Goal("memory of the indexer, MB", _peak("indexer"), 150, _AT_MOST, ".0f"),
)
