"""Formats the results of the suite: ratios, absolute figures, resource usage of each process, and the goals. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from hitcounter_benchmark.benchmark import Result
from hitcounter_benchmark.comparison import BARE, Line, Round, compare
from hitcounter_benchmark.goals import tabulate_goals
from hitcounter_benchmark.report import build_results
from hitcounter_benchmark.tables import Table, render_sections, show


def render_suite(lines: Sequence[Line], rounds: Sequence[Round]) -> str:
    """Return all tables as text, with the verdicts that are not right at the end, where they are seen."""
    return f"{render_sections(build_suite_sections(lines, _compare_each(rounds)))}\n\n{_render_verdicts(rounds)}"


def build_suite_sections(lines: Sequence[Line], rounds: Sequence[Sequence[Line]]) -> list[tuple[str, Table]]:
    """Return a title and a table for each kind of figure, from the medians and from the lines of each round."""
    times = "1 round" if len(rounds) == 1 else f"medians of {len(rounds)} rounds"
    return [
        (f"Ratios to {BARE} ({times})", _ratios(lines)),
        ("Absolute", _absolutes(lines)),
        ("Durations, ms", _latencies(lines)),
        ("CPU seconds per million hits", _usage(lines, [line.cpu_seconds_per_million for line in lines], ".1f")),
        ("Peak memory, MB", _usage(lines, [line.peak_memory_mb for line in lines], ".0f")),
        ("Goals, for two cores with everything on them", tabulate_goals(lines, rounds)),
    ]


def build_suite_record(lines: Sequence[Line], rounds: Sequence[Round]) -> dict[str, object]:
    """Return the medians and every single result, ready for JSON."""
    recorded = [{name: _record_result(result) for name, result in results.items()} for results in rounds]
    by_round = [[asdict(line) for line in own] for own in _compare_each(rounds)]
    return {"medians": [asdict(line) for line in lines], "by_round": by_round, "rounds": recorded}


def _compare_each(rounds: Sequence[Round]) -> list[list[Line]]:
    return [compare([results]) for results in rounds]


def _record_result(result: Result) -> dict[str, object]:
    usage = {process: asdict(usage) for process, usage in result.usage.items()}
    return {"settings": result.plan.as_settings(), "results": build_results(result), "usage": usage}


def _ratios(lines: Sequence[Line]) -> Table:
    def row(line: Line) -> list[str]:
        ratios = (line.accepted_ratio, line.countable_ratio, line.sustained_ratio, line.api_cpu_ratio)
        return [line.name, *(show(ratio, ".2f") for ratio in ratios), show(line.documents_per_hit, ".3f")]

    return [["", "accepted", "countable", "sustained", "API's CPU a hit", "documents a hit"], *map(row, lines)]


def _absolutes(lines: Sequence[Line]) -> Table:
    head = ["", "accepted/s", "countable/s", "sustained/s", "backlog", "client CPU", "others' CPU"]
    rows = [
        [
            line.name,
            *(show(number, ",.0f") for number in (line.accepted, line.countable, line.sustained)),
            show(line.highest_backlog, ",.0f"),
            *(show(cores, ".2f") for cores in (line.client_cpu_share, line.neighbours_cores)),
        ]
        for line in lines
    ]
    return [head, *rows]


def _latencies(lines: Sequence[Line]) -> Table:
    head = ["", "Track p50", "p90", "p99", "fresh p50", "p99", "read p50", "p90", "p99"]
    rows = [
        [
            line.name,
            *(show(duration_ms, ".2f") for duration_ms in (line.p50_ms, line.p90_ms, line.p99_ms)),
            *(show(duration_ms, ",.0f") for duration_ms in (line.freshness_p50_ms, line.freshness_p99_ms)),
            *(show(duration_ms, ".1f") for duration_ms in (line.read_p50_ms, line.read_p90_ms, line.read_p99_ms)),
        ]
        for line in lines
    ]
    return [head, *rows]


def _usage(lines: Sequence[Line], columns: Sequence[Mapping[str, float]], form: str) -> Table:
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = [
        [line.name, *(show(column.get(name), form) for name in names)]
        for line, column in zip(lines, columns, strict=True)
    ]
    return [["", *names], *rows]


def _render_verdicts(rounds: Sequence[Round]) -> str:
    results = [(name, result) for results_by_name in rounds for name, result in results_by_name.items()]
    wrong = [f"{name}: {result.verdict.sentence}" for name, result in results if not result.is_right and result.verdict]
    errors = [f"{name}: {dict(result.errors)}" for name, result in results if result.errors]
    if wrong or errors:
        return "\n".join(["NOT RIGHT:" if wrong else "Errors:", *wrong, *errors])
    counted = sum(result.verdict.counted or 0 for _, result in results if result.verdict)
    acknowledged = sum(result.acknowledged_hits for _, result in results if result.verdict)
    return f"All counts right: counted {counted:,} = acknowledged {acknowledged:,}; no errors."
