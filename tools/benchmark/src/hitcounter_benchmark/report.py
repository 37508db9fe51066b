"""Formats a result: a table for people, JSON for the record."""

import platform
from dataclasses import asdict
from importlib.metadata import version
from typing import Final

from hitcounter_benchmark.backlog import thin
from hitcounter_benchmark.benchmark import Result
from hitcounter_benchmark.histogram import Histogram
from hitcounter_benchmark.machine import describe_machine

_PERCENTS: Final = (50, 90, 99, 99.9)
_PACKAGES: Final = ("hitcounter-benchmark", "uvloop", "httptools", "orjson")


def render_table(result: Result) -> str:
    """Return the result as lines of a name and what was found."""
    rows = [
        ("load", result.plan.describe()),
        (
            "accepted",
            f"{result.accepted_per_second:,.0f} hits/s ({result.acknowledged_hits:,} in {result.seconds:.1f} s)",
        ),
        *_countable_rows(result),
        *_flow_rows(result),
        ("latency", _render_histogram(result.latency, _PERCENTS)),
        *([("reads", _render_reads(result.reads))] if result.reads else []),
        *_freshness_rows(result),
        ("errors", ", ".join(f"{kind}: {count:,}" for kind, count in sorted(result.errors.items())) or "none"),
        (
            "client",
            f"{result.client_cpu_share:.2f} of a core, late {_render_histogram(result.client_stalls, (50, 99))}",
        ),
        *([("verdict", result.verdict.sentence)] if result.verdict else []),
    ]
    return "\n".join(f"{name:<10} {text}" for name, text in rows)


def build_record(result: Result) -> dict[str, object]:
    """Return settings, results, machine and versions, ready for JSON."""
    return {"settings": result.plan.as_settings(), "results": build_results(result), **build_context()}


def build_context() -> dict[str, object]:
    """Return what a figure means nothing without: the machine and the versions."""
    versions = {package: version(package) for package in _PACKAGES}
    return {"machine": describe_machine(), "versions": {"python": platform.python_version(), **versions}}


def build_results(result: Result) -> dict[str, object]:
    """Return the figures of one run for JSON. Durations are in milliseconds if their name ends with _ms."""
    return {
        "seconds": round(result.seconds, 3),
        "acknowledged_hits": result.acknowledged_hits,
        "unknown_hits": result.unknown_hits,
        "accepted_per_second": round(result.accepted_per_second, 1),
        "countable_per_second": _rounded(result.countable_per_second),
        "drain_seconds": _rounded(result.drain_seconds),
        "flow": asdict(result.flow) if result.flow else None,
        "samples": [asdict(sample) for sample in thin(result.samples)],
        "documents": result.documents,
        "reads_ms": summarize_ms(result.reads) if result.reads else None,
        "latency_ms": summarize_ms(result.latency),
        "freshness_ms": summarize_ms(result.freshness.durations) if result.freshness else None,
        "freshness_missing": result.freshness.missing if result.freshness else None,
        "freshness_errors": dict(result.freshness.errors) if result.freshness else None,
        "errors": dict(result.errors),
        "client_cpu_share": round(result.client_cpu_share, 3),
        "neighbours_cores": _rounded(result.neighbours_cores),
        "client_stalls_ms": summarize_ms(result.client_stalls),
        "verdict": result.verdict.sentence if result.verdict else None,
        "counted": result.verdict.counted if result.verdict else None,
        "is_right": result.is_right,
    }


def summarize_ms(histogram: Histogram) -> dict[str, float]:
    """Return the percentiles, the maximum and the number of durations."""
    percentiles = {f"p{percent}": round(histogram.percentile_ns(percent) / 1e6, 3) for percent in _PERCENTS}
    return {**percentiles, "max": round(histogram.max_ns / 1e6, 3), "total": histogram.total}


def _countable_rows(result: Result) -> list[tuple[str, str]]:
    if result.countable_per_second is None:
        return []
    rate = f"{result.countable_per_second:,.0f} hits/s"
    return [("countable", f"{rate} (backlog 0 after another {result.drain_seconds:.2f} s)")]


def _flow_rows(result: Result) -> list[tuple[str, str]]:
    flow = result.flow
    if flow is None:
        return []
    rates = f"{flow.accepted_per_second:,.0f} hits/s in, {flow.settled_per_second:,.0f} out"
    return [("queue", f"{rates}, {flow.highest_backlog:,} at most (last {flow.seconds:.0f} s of the load)")]


def _render_reads(reads: Histogram) -> str:
    return f"{_render_histogram(reads, (50, 90, 99))} ({reads.total:,} reads)"


def _freshness_rows(result: Result) -> list[tuple[str, str]]:
    freshness = result.freshness
    if freshness is None:
        return []
    missing = f", {freshness.missing:,} never countable" if freshness.missing else ""
    errors = "".join(f", {kind}: {count:,}" for kind, count in sorted(freshness.errors.items()))
    shown = _render_histogram(freshness.durations, (50, 90, 99))
    return [("freshness", f"{shown} ({freshness.durations.total:,} probes{missing}{errors})")]


def _render_histogram(histogram: Histogram, percents: tuple[float, ...]) -> str:
    values = [(f"p{percent}", histogram.percentile_ns(percent)) for percent in percents]
    return "  ".join(f"{name} {_render_ms(value)}" for name, value in [*values, ("max", histogram.max_ns)]) + " ms"


def _render_ms(duration_ns: int) -> str:
    return f"{duration_ns / 1e6:,.2f}" if duration_ns < 1e9 else f"{duration_ns / 1e6:,.0f}"


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 3)
