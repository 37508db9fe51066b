"""How the suite is told: ratios first, absolute figures second, what each process used third. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from hitcounter_benchmark.benchmark import Result
from hitcounter_benchmark.comparison import BARE, Line, Round
from hitcounter_benchmark.report import build_results

Table = list[list[str]]


def render_suite(lines: Sequence[Line], rounds: Sequence[Round]) -> str:
    """Return all tables as text, with the verdicts that are not right at the end, where they are seen."""
    times = "1 round" if len(rounds) == 1 else f"medians of {len(rounds)} rounds"
    sections = [
        (f"Ratios to {BARE} ({times})", _ratios(lines)),
        ("Absolute", _absolutes(lines)),
        ("CPU seconds per million hits", _usage(lines, [line.cpu_seconds_per_million for line in lines], ".1f")),
        ("Peak memory, MB", _usage(lines, [line.peak_memory_mb for line in lines], ".0f")),
    ]
    tables = [f"{title}\n{_render_table(table)}" for title, table in sections]
    return "\n\n".join([*tables, _render_verdicts(rounds)])


def build_suite_record(lines: Sequence[Line], rounds: Sequence[Round]) -> dict[str, object]:
    """Return the medians and every single result, ready for JSON."""
    recorded = [{name: _record_result(result) for name, result in results.items()} for results in rounds]
    return {"medians": [asdict(line) for line in lines], "rounds": recorded}


def _record_result(result: Result) -> dict[str, object]:
    usage = {process: asdict(usage) for process, usage in result.usage.items()}
    return {"settings": result.plan.as_settings(), "results": build_results(result), "usage": usage}


def _ratios(lines: Sequence[Line]) -> Table:
    rows = [
        [line.name, *(_show(ratio, ".2f") for ratio in (line.accepted_ratio, line.countable_ratio, line.api_cpu_ratio))]
        for line in lines
    ]
    return [["", "accepted", "countable", "API's CPU a hit"], *rows]


def _absolutes(lines: Sequence[Line]) -> Table:
    head = ["", "accepted/s", "countable/s", "p50 ms", "p90 ms", "p99 ms", "fresh p50", "fresh p99", "client CPU"]
    rows = [
        [
            line.name,
            _show(line.accepted, ",.0f"),
            _show(line.countable, ",.0f"),
            *(_show(duration_ms, ".2f") for duration_ms in (line.p50_ms, line.p90_ms, line.p99_ms)),
            *(_show(duration_ms, ",.0f") for duration_ms in (line.freshness_p50_ms, line.freshness_p99_ms)),
            _show(line.client_cpu_share, ".2f"),
        ]
        for line in lines
    ]
    return [head, *rows]


def _usage(lines: Sequence[Line], columns: Sequence[Mapping[str, float]], form: str) -> Table:
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = [
        [line.name, *(_show(column.get(name), form) for name in names)]
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


def _render_table(table: Table) -> str:
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return "\n".join(_render_row(row, widths) for row in table)


def _render_row(row: Iterable[str], widths: Sequence[int]) -> str:
    first, *others = zip(row, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)]).rstrip()


def _show(number: float | None, form: str) -> str:
    return "" if number is None else format(number, form)
