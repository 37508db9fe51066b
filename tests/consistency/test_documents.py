"""The documents point at things that exist: files, tests, decisions."""

from __future__ import annotations

import json
import re

from hitcounter_api.counts import WINDOWS

from tests.consistency.workspace import ROOT, markdown_files
from tools.appendix import DOCUMENTS, find_rows, find_tests, read_promises

DECISIONS = sorted((ROOT / "docs/decisions").glob("*.md"))


def rows_with_ids(document: str) -> list[list[str]]:
    """Return the cells of each row of the tables whose first column is the id."""
    rows: list[list[str]] = []
    is_listed = False
    for line in (ROOT / "docs" / document).read_text().splitlines():
        cells = line.strip("| ").split(" | ") if line.startswith("| ") else []
        is_listed = bool(cells) and (is_listed or cells[0] == "id")
        if is_listed and cells[0] not in ("id", "---"):
            rows.append(cells)
    return rows


ROWS = {document: rows_with_ids(document) for document in DOCUMENTS}


def test_rows_of_promises_and_failures_have_ids_of_their_own_that_lead_to_their_tests() -> None:
    cells = [row[0] for rows in ROWS.values() for row in rows]
    names = re.findall(r"\w+", " ".join(cell.partition("]")[0] for cell in cells))
    assert cells == [f"[{name}](appendix-tests.md#{name.lower()})" for name in names]
    assert len(set(names)) == len(names)
    assert min(len(rows) for rows in ROWS.values()) > 7
    assert len(names) > 100


def test_every_promise_and_every_failure_is_shown_by_a_test_and_nothing_else_is() -> None:
    assert {name for name, tests in read_promises().items() if tests} == {name for _, name, _ in find_rows()}


def test_every_test_that_shows_a_promise_is_one_test() -> None:
    files = find_tests()
    assert [name for tests in read_promises().values() for name in tests if len(files.get(name, ())) != 1] == []


def test_every_id_that_a_document_names_is_the_id_of_a_row() -> None:
    named = {
        (path.name, name)
        for path in markdown_files()
        for name in re.findall(r"appendix-tests\.md#(\w+)", path.read_text())
    }
    assert not {(document, name) for document, name in named if name.upper() not in read_promises()}


def test_every_test_that_a_document_names_exists() -> None:
    named = {(path.name, name) for path in markdown_files() for name in re.findall(r"`(test_\w+)`", path.read_text())}
    existing = find_tests()
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


def test_reference_lists_every_call_of_the_api() -> None:
    document = json.loads((ROOT / "docs/openapi.json").read_text())
    calls = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    listed = set(re.findall(r"`((?:GET|POST) /[^`]+)`", (ROOT / "docs/http-api.md").read_text()))
    assert listed == calls | {"GET /docs", "GET /openapi.json", "GET /livez"}


def test_readme_shows_the_windows_in_their_order() -> None:
    shown = re.findall(r'"reference":"([^"]+)"', (ROOT / "README.md").read_text())
    assert shown == [name for name, _ in WINDOWS]
