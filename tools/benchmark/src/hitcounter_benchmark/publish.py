"""From the records to docs/performance.md: plots are drawn, tables are filled in, figures are typed by nobody.

A table stands in the document between ``<!-- FILE.json TABLE -->`` and ``<!-- end -->``: FILE.json is a record in the
history, TABLE the first word of a table's title. Text around it stays as it is.
"""

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from hitcounter_benchmark.benchmark import BenchmarkError
from hitcounter_benchmark.comparison import Line
from hitcounter_benchmark.growth_report import BacklogRow, Growth, IndexersRow, StoredRow, build_growth_sections
from hitcounter_benchmark.plots import draw_growth, draw_history, draw_suite
from hitcounter_benchmark.progress import say
from hitcounter_benchmark.suite_report import build_suite_sections
from hitcounter_benchmark.tables import Table, render_markdown

_PLACE: Final = re.compile(r"(<!-- (?P<file>\S+\.json) (?P<table>\S+) -->\n).*?(<!-- end -->)", re.DOTALL)

Record = Mapping[str, Any]
"""A record as it was written; its kind says what is in it."""


def run_publish(argv: Sequence[str]) -> int:
    """Draw all plots and fill in all tables, and return the exit status."""
    options = _build_parser().parse_args(argv)
    records = read_records(options.history)
    for name, drawing in draw_all(records).items():
        (options.history / f"{name}.svg").write_text(drawing)
        say(f"drawn: {name}.svg")
    options.document.write_text(fill_in(options.document.read_text(), records))
    return 0


def read_records(folder: Path) -> dict[str, Record]:
    """Return the records of a history by their file names, oldest first."""
    return {file.name: orjson.loads(file.read_bytes()) for file in sorted(folder.glob("*.json"))}


def fill_in(document: str, records: Mapping[str, Record]) -> str:
    """Return the document with every table as its record has it.

    Raises:
        BenchmarkError: The document names a record or a table that does not exist.
    """

    def fill(place: re.Match[str]) -> str:
        return f"{place[1]}{render_markdown(_find_table(records, place['file'], place['table']))}\n{place[4]}"

    return _PLACE.sub(fill, document)


def draw_all(records: Mapping[str, Record]) -> dict[str, str]:
    """Return the plots of all records, and of the history that they are, by file name without its ending."""
    drawn: dict[str, str] = {}
    for file, record in records.items():
        stem = file.removesuffix(".json")
        plots = draw_suite(_read_lines(record)) if record["kind"] == "suite" else draw_growth(_read_growth(record))
        drawn |= {f"{stem}-{name}": drawing for name, drawing in plots.items()}
    suites = [record for record in records.values() if record["kind"] == "suite"]
    labels = [f"{record['measured_at'][:10]} {record['commit']}" for record in suites]
    return {**drawn, "history": draw_history(labels, [_read_lines(record) for record in suites])}


def _find_table(records: Mapping[str, Record], file: str, name: str) -> Table:
    if file not in records:
        raise BenchmarkError(f"the document names {file}, which is not in the history")
    tables = {title.split()[0].strip(",").lower(): table for title, table in _build_sections(records[file])}
    if name not in tables:
        raise BenchmarkError(f"{file} has no table {name!r}, but {', '.join(tables)}")
    return tables[name]


def _build_sections(record: Record) -> Iterable[tuple[str, Table]]:
    if record["kind"] == "suite":
        return build_suite_sections(_read_lines(record), [list(map(_read_line, lines)) for lines in record["by_round"]])
    return build_growth_sections(_read_growth(record))


def _read_lines(record: Record) -> list[Line]:
    return [_read_line(line) for line in record["medians"]]


def _read_line(line: Mapping[str, Any]) -> Line:
    return Line(**line)


def _read_growth(record: Record) -> Growth:
    return Growth(
        [IndexersRow(**row) for row in record["indexers"]],
        [StoredRow(**row) for row in record["stored"]],
        [BacklogRow(**row) for row in record["backlog"]],
    )


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hitcounter-benchmark publish",
        description="Draw the plots of all records, and fill the tables of the document in.",
    )
    parser.add_argument("--history", type=Path, default=Path("docs/performance"), help="the records (%(default)s)")
    parser.add_argument("--document", type=Path, default=Path("docs/performance.md"), help="(%(default)s)")
    return parser
