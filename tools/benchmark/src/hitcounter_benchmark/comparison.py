"""Combines the rounds of all measurements: medians, and ratios to the bare endpoint. Pure.

A ratio is computed within a round, between measurements that are close in time; then the median over the rounds is
taken. So a machine that slows down when it gets warm, or other load on it, affects both sides of the ratio.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from hitcounter_benchmark.benchmark import Result
from hitcounter_benchmark.processes import Usage

BARE: Final = "bare uvicorn"
TRACK: Final = "Track alone"
PATH: Final = "whole path"
ONE_ID: Final = "whole path, 1 id"
BATCHES: Final = "batches of 1,000"
OPEN_LOOP: Final = "open loop, 10,000/s"

ANSWERING: Final = "api"
"""The process that answers HTTP, in every installation."""


def name_reads(hits: int) -> str:
    """Return the name of the reads of an id that has so many hits."""
    return f"reads of an id with {hits:,} hits"


Round = Mapping[str, Result]
"""The results of one round, by the name of what was measured."""


@dataclass(frozen=True, slots=True)
class Line:
    """What all rounds together say of one measurement; rates in hits per second, durations in milliseconds."""

    name: str
    accepted_ratio: float | None
    """To the bare endpoint's requests per second; None for an open loop, which chooses its own rate."""
    countable_ratio: float | None
    sustained_ratio: float | None
    """Of the rate that left the queue while it was held short (see ``backlog``)."""
    api_cpu_ratio: float | None
    """CPU time per hit of the answering process, relative to the bare one. Other load on the machine hardly changes it.
    """
    accepted: float | None
    countable: float | None
    sustained: float | None
    highest_backlog: float | None
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    read_p50_ms: float | None
    read_p90_ms: float | None
    read_p99_ms: float | None
    freshness_p50_ms: float | None
    freshness_p99_ms: float | None
    documents_per_hit: float | None
    errors: int
    """Of all rounds together, as is the next."""
    wrong: int
    """Loads whose counts were not right, or could not be shown to be."""
    client_cpu_share: float | None
    neighbours_cores: float | None
    cpu_seconds_per_million: Mapping[str, float]
    peak_memory_mb: Mapping[str, float]


def compare(rounds: Sequence[Round]) -> list[Line]:
    """Return one line for each measurement, in the order of the first round; every round must have them all."""
    return [_build_line(name, rounds) for name in rounds[0]]


def _build_line(name: str, rounds: Sequence[Round]) -> Line:
    results = [results_by_name[name] for results_by_name in rounds]
    figures = [_read_figures(results_by_name[name], results_by_name[BARE]) for results_by_name in rounds]
    return Line(
        name=name,
        errors=sum(map(_count_errors, results)),
        wrong=sum(not result.is_right for result in results),
        cpu_seconds_per_million=_by_process(results, _cpu_seconds_per_million),
        peak_memory_mb=_by_process(results, lambda _, usage: usage.peak_memory_mb),
        **{key: _median_of_known(figure[key] for figure in figures) for key in figures[0]},
    )


def _read_figures(result: Result, bare: Result) -> dict[str, float | None]:
    """Return the figures of one round by the names of their fields in `Line`."""
    is_open, flow = result.plan.rate is not None, result.flow
    # The rate of the whole path: only a load that the backlog held back went at it.
    sustained = flow.settled_per_second if flow and result.plan.max_backlog is not None else None
    durations = {
        "": result.latency,
        "read_": result.reads,
        "freshness_": result.freshness.durations if result.freshness else None,
    }

    def ratio(rate: float | None) -> float | None:
        return rate / bare.accepted_per_second if rate is not None and bare.accepted_per_second else None

    return {
        "accepted_ratio": None if is_open else ratio(result.accepted_per_second),
        "countable_ratio": None if is_open else ratio(result.countable_per_second),
        "sustained_ratio": ratio(sustained),
        "api_cpu_ratio": _api_cpu_ratio(result, bare),
        "accepted": result.accepted_per_second,
        "countable": result.countable_per_second,
        "sustained": sustained,
        "highest_backlog": flow.highest_backlog if flow else None,
        **{
            f"{kind}p{percent}_ms": histogram.percentile_ns(percent) / 1e6 if histogram else None
            for kind, histogram in durations.items()
            for percent in (50, 90, 99)
            if (kind, percent) != ("freshness_", 90)
        },
        "documents_per_hit": None if result.documents is None else result.documents / max(result.acknowledged_hits, 1),
        "client_cpu_share": result.client_cpu_share,
        "neighbours_cores": result.neighbours_cores,
    }


def _median_of_known(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _count_errors(result: Result) -> int:
    of_probes = result.freshness.errors if result.freshness else {}
    return sum(result.errors.values()) + sum(of_probes.values())


def _cpu_seconds_per_million(result: Result, usage: Usage) -> float:
    return 1e6 * usage.cpu_seconds / max(result.acknowledged_hits, 1)


def _api_cpu_ratio(result: Result, bare: Result) -> float | None:
    own, floor = (_cpu_seconds_per_million(one, one.usage[ANSWERING]) for one in (result, bare))
    return own / floor if floor else None


def _by_process(results: Sequence[Result], measure: Callable[[Result, Usage], float]) -> dict[str, float]:
    return {
        process: median(measure(result, result.usage[process]) for result in results) for process in results[0].usage
    }
