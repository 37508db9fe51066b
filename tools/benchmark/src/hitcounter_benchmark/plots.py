"""Which plots a record gets. Pure: a record's content in, SVG out."""

from collections.abc import Sequence

from hitcounter_benchmark.comparison import BARE, Line
from hitcounter_benchmark.growth_report import Growth
from hitcounter_benchmark.svg import Numbers, draw_bars, draw_lines


def draw_suite(lines: Sequence[Line]) -> dict[str, str]:
    """Return the plots of one run of the suite, by name."""
    compared = [line for line in lines if line.name != BARE and line.accepted_ratio is not None and line.p50_ms]
    measured = [line for line in lines if line.read_p50_ms is not None]
    ratios: dict[str, Numbers] = {
        "accepted": [line.accepted_ratio for line in compared],
        "sustained": [line.sustained_ratio for line in compared],
    }
    reads: dict[str, Numbers] = {
        "p50": [line.read_p50_ms for line in measured],
        "p90": [line.read_p90_ms for line in measured],
        "p99": [line.read_p99_ms for line in measured],
    }
    return {
        "ratios": draw_bars(
            f"Hits a second, as multiples of the requests a second of {BARE}",
            [line.name for line in compared],
            ratios,
            unit="multiple",
        ),
        "reads": draw_bars(
            "Reads of five windows beside 5,000 hits a second", [line.name for line in measured], reads, unit="ms"
        ),
    }


def draw_growth(growth: Growth) -> dict[str, str]:
    """Return the plots of one run of the experiments on growth, by name."""
    indexers, stored, backlogs = growth.indexers, growth.stored, growth.backlog
    levels = sorted({row.hits for row in stored})
    numbers = sorted({row.ids for row in stored})

    def by_ids(name: str) -> dict[str, Numbers]:
        found = {(row.ids, row.hits): float(getattr(row, name)) for row in stored}
        return {f"{ids:,} ids" if ids > 1 else "1 id": [found.get((ids, level)) for level in levels] for ids in numbers}

    reads = {f"an id with its share, of {name}": values for name, values in by_ids("read_p90_ms").items()}
    colds = {f"a cold id, beside {name}": values for name, values in by_ids("cold_p90_ms").items()}
    durations: dict[str, Numbers] = {
        "standing, p50": [row.standing_p50_ms for row in backlogs],
        "standing, p99": [row.standing_p99_ms for row in backlogs],
        "draining, p50": [row.draining_p50_ms for row in backlogs],
        "draining, p99": [row.draining_p99_ms for row in backlogs],
    }
    stored_labels = [f"{level:,}" for level in levels]
    return {
        "indexers": draw_bars(
            "Hits settled a second by indexers held to the same share of a core each",
            [str(row.indexers) for row in indexers],
            {"settled": [row.settled_per_second for row in indexers]},
            unit="hits/s",
        ),
        "reads": draw_lines(
            "Reads of five windows, p90, over stored hits", stored_labels, {**reads, **colds}, unit="ms", is_log=True
        ),
        "writes": draw_lines(
            "Hits written a second, over stored hits", stored_labels, by_ids("written_per_second"), unit="hits/s"
        ),
        "backlog": draw_lines(
            "Track at 5,000 hits a second, over the backlog",
            [f"{row.hits:,}" for row in backlogs],
            durations,
            unit="ms",
            is_log=True,
        ),
    }


def draw_history(labels: Sequence[str], runs: Sequence[Sequence[Line]]) -> str:
    """Return how the ratios moved from run to run."""
    names = dict.fromkeys(line.name for lines in runs for line in lines if line.name != BARE)
    by_run = [{line.name: line for line in lines} for lines in runs]

    def ratio(line: Line | None) -> float | None:
        return None if line is None else line.sustained_ratio or line.accepted_ratio

    series: dict[str, Numbers] = {name: [ratio(lines.get(name)) for lines in by_run] for name in names}
    told = {name: values for name, values in series.items() if any(values) and "ceiling" not in name}
    return draw_lines(f"Ratios to {BARE}, run by run", labels, told, unit="multiple")
