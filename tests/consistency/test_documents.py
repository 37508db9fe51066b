"""The documents point at things that exist: files, tests, decisions."""

from __future__ import annotations

import json
import re

import pytest
from hitcounter_api.counts import WINDOWS

from tests.consistency.house import ROOT, markdown_files

DECISIONS = sorted((ROOT / "docs/decisions").glob("*.md"))


def existing_tests(ring: str = "") -> set[str]:
    return {
        name
        for path in (ROOT / "tests" / ring).rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    }


def rows_with_tests(document: str) -> list[list[str]]:
    """Return the cells of each row of the tables whose last column says by which tests it is shown."""
    rows: list[list[str]] = []
    is_shown = False
    for line in (ROOT / document).read_text().splitlines():
        cells = line.strip("| ").split(" | ") if line.startswith("| ") else []
        is_shown = bool(cells) and (is_shown or cells[-1] == "shown by")
        if is_shown and cells[-1] not in ("shown by", "---"):
            rows.append(cells)
    return rows


def failure_table() -> list[list[str]]:
    """Return the cells of each row of the failure table."""
    return rows_with_tests("docs/architecture.md")


def shown() -> list[str]:
    """Return what stands in the last cell of every row that says by which tests it is shown."""
    return [row[-1] for document in ("docs/architecture.md", "docs/guarantees.md") for row in rows_with_tests(document)]


def test_failure_table_has_rows_of_four_cells() -> None:
    table = failure_table()
    assert len(table) > 20
    assert {len(row) for row in table} == {4}


def test_guarantees_name_a_test_in_every_row_of_their_tables() -> None:
    table = rows_with_tests("docs/guarantees.md")
    assert len(table) > 20
    assert [row[0] for row in table if not re.search(r"`test_\w+`", row[-1])] == []


@pytest.mark.parametrize("row", failure_table(), ids=lambda row: row[0])
def test_row_of_the_failure_table_names_its_test(row: list[str]) -> None:
    assert re.search(r"`test_\w+`", row[3])


def test_tables_mark_the_tests_that_need_no_real_store_by_their_ring() -> None:
    ring_of = {name: ring for ring in ("unit", "contract") for name in existing_tests(ring)}
    named = {match for cell in shown() for match in re.findall(r"`(test_\w+)`(?: \((\w+)\))?", cell)}
    assert not {(name, mark) for name, mark in named if mark != ring_of.get(name, "")}


def test_every_test_that_a_document_names_exists() -> None:
    named = {(path.name, name) for path in markdown_files() for name in re.findall(r"`(test_\w+)`", path.read_text())}
    existing = existing_tests()
    assert not {pair for pair in named if pair[1] not in existing}


def test_every_relative_link_leads_to_a_file() -> None:
    broken = {
        f"{path.relative_to(ROOT)}: {target}"
        for path in markdown_files()
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text())
        if "://" not in target and not (path.parent / target).exists()
    }
    assert not broken


def test_decision_records_have_numbers_of_their_own() -> None:
    numbers = [path.name.partition("-")[0] for path in DECISIONS]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_decision_record_has_its_number_and_its_four_parts(path: object) -> None:
    name, text = str(path).rpartition("/")[2], (ROOT / str(path)).read_text()
    assert re.match(rf"# {name[:4]}\. \S", text)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences", "Rejected"]


def test_reference_lists_every_call_of_the_api() -> None:
    document = json.loads((ROOT / "docs/openapi.json").read_text())
    calls = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    listed = set(re.findall(r"`((?:GET|POST) /[^`]+)`", (ROOT / "docs/http-api.md").read_text()))
    assert listed == calls | {"GET /docs", "GET /openapi.json", "GET /livez"}


def test_readme_shows_the_windows_in_their_order() -> None:
    shown = re.findall(r'"reference":"([^"]+)"', (ROOT / "README.md").read_text())
    assert shown == [name for name, _ in WINDOWS]
