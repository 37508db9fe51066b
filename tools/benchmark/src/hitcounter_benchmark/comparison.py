"""Combines the rounds of all measurements: medians, and ratios to the bare endpoint. Pure.

A ratio is computed within a round, between measurements that are close in time; then the median over the rounds is
taken. So a machine that slows down when it gets warm, or other load on it, affects both sides of the ratio.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from hitcounter_benchmark.benchmark import Result
from hitcounter_benchmark.histogram import Histogram
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
    accepted: float
    countable: float | None
    sustained: float | None
    highest_backlog: float | None
    p50_ms: float
    p90_ms: float
    p99_ms: float
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
    client_cpu_share: float
    neighbours_cores: float | None
    cpu_seconds_per_million: Mapping[str, float]
    peak_memory_mb: Mapping[str, float]


def compare(rounds: Sequence[Round]) -> list[Line]:
    """Return one line for each measurement, in the order of the first round; every round must have them all."""
    return [_build_line(name, rounds) for name in rounds[0]]


def _build_line(name: str, rounds: Sequence[Round]) -> Line:
    results = [results_by_name[name] for results_by_name in rounds]
    bare = [results_by_name[BARE] for results_by_name in rounds]
    is_open = results[0].plan.rate is not None
    return Line(
        name=name,
        accepted_ratio=None if is_open else _median_ratio(name, rounds, lambda result: result.accepted_per_second),
        countable_ratio=None if is_open else _median_ratio(name, rounds, lambda result: result.countable_per_second),
        sustained_ratio=_median_ratio(name, rounds, _sustained),
        api_cpu_ratio=_median_of_known(map(_api_cpu_ratio, results, bare)),
        accepted=median(result.accepted_per_second for result in results),
        countable=_median_of_known(result.countable_per_second for result in results),
        sustained=_median_of_known(map(_sustained, results)),
        highest_backlog=_median_of_known(result.flow.highest_backlog if result.flow else None for result in results),
        p50_ms=_median_ms((result.latency for result in results), 50),
        p90_ms=_median_ms((result.latency for result in results), 90),
        p99_ms=_median_ms((result.latency for result in results), 99),
        read_p50_ms=_median_read_ms(results, 50),
        read_p90_ms=_median_read_ms(results, 90),
        read_p99_ms=_median_read_ms(results, 99),
        freshness_p50_ms=_median_freshness_ms(results, 50),
        freshness_p99_ms=_median_freshness_ms(results, 99),
        documents_per_hit=_median_of_known(map(_documents_per_hit, results)),
        errors=sum(map(_count_errors, results)),
        wrong=sum(not result.is_right for result in results),
        client_cpu_share=median(result.client_cpu_share for result in results),
        neighbours_cores=_median_of_known(result.neighbours_cores for result in results),
        cpu_seconds_per_million=_by_process(results, _cpu_seconds_per_million),
        peak_memory_mb=_by_process(results, lambda _, usage: usage.peak_memory_mb),
    )


def _median_ratio(name: str, rounds: Sequence[Round], rate: Callable[[Result], float | None]) -> float | None:
    """Return the median of the ratios of those rounds in which both sides are known."""
    pairs = [(rate(results[name]), results[BARE].accepted_per_second) for results in rounds]
    return _median_of_known(own / bare if own is not None and bare else None for own, bare in pairs)


def _median_of_known(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _count_errors(result: Result) -> int:
    of_probes = result.freshness.errors if result.freshness else {}
    return sum(result.errors.values()) + sum(of_probes.values())


def _sustained(result: Result) -> float | None:
    """Return the rate of the whole path: only a load that the backlog held back went at it."""
    return result.flow.settled_per_second if result.flow and result.plan.max_backlog is not None else None


def _documents_per_hit(result: Result) -> float | None:
    return None if result.documents is None else result.documents / max(result.acknowledged_hits, 1)


def _median_ms(histograms: Iterable[Histogram], percent: float) -> float:
    return median(histogram.percentile_ns(percent) for histogram in histograms) / 1e6


def _median_read_ms(results: Sequence[Result], percent: float) -> float | None:
    reads = [result.reads for result in results if result.reads is not None]
    return _median_ms(reads, percent) if reads else None


def _median_freshness_ms(results: Sequence[Result], percent: float) -> float | None:
    durations = [result.freshness.durations for result in results if result.freshness is not None]
    return _median_ms(durations, percent) if durations else None


def _cpu_seconds_per_million(result: Result, usage: Usage) -> float:
    return 1e6 * usage.cpu_seconds / max(result.acknowledged_hits, 1)


def _api_cpu_ratio(result: Result, bare: Result) -> float | None:
    own, floor = (_cpu_seconds_per_million(one, one.usage[ANSWERING]) for one in (result, bare))
    return own / floor if floor else None


def _by_process(results: Sequence[Result], measure: Callable[[Result, Usage], float]) -> dict[str, float]:
    return {
        process: median(measure(result, result.usage[process]) for result in results) for process in results[0].usage
    }
