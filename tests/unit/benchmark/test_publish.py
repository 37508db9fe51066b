from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from hitcounter_benchmark.__main__ import main
from hitcounter_benchmark.comparison import BARE, compare
from hitcounter_benchmark.growth_report import BacklogRow, Growth, IndexersRow, StoredRow
from hitcounter_benchmark.history import name_record
from hitcounter_benchmark.publish import draw_all, read_records
from hitcounter_benchmark.suite_report import build_suite_record

from tests.unit.benchmark.test_comparison import make_result, make_round

SUITE, GROWTH = "suite-2026-11-24-0400-abc1234.json", "growth-2026-11-24-0500-abc1234.json"


def make_suite_record() -> dict[str, Any]:
    rounds = [{**make_round(1000, 500), "batches": make_result(3000)}]
    return {
        "kind": "suite",
        "measured_at": "2026-11-24T04:00:00+00:00",
        "commit": "abc1234",
        **build_suite_record(compare(rounds), rounds),
    }


def make_growth_record() -> dict[str, Any]:
    stored = [
        StoredRow(
            ids=ids,
            hits=hits,
            documents=hits,
            disk_bytes_per_document=30.0,
            hits_of_read_id=hits // ids,
            cold_p50_ms=1.0,
            cold_p90_ms=2.0,
            read_p50_ms=3.0,
            read_p90_ms=4.0,
            written_per_second=50_000.0,
            elasticsearch_cpu_us=12.0,
        )
        for ids in (1, 1000)
        for hits in (10_000, 100_000)
    ]
    indexers = [IndexersRow(number, 0.1, 0.1, 1.0, 20_000.0 * number) for number in (1, 2)]
    backlog = [BacklogRow(hits, 5.0, 1.0, 2.0, 1.5, 3.0, 0, 50_000.0 if hits else None) for hits in (0, 100_000)]
    return {"kind": "growth", **asdict(Growth(indexers, stored, backlog))}


@pytest.fixture
def history(tmp_path: Path) -> Path:
    folder = tmp_path / "performance"
    folder.mkdir()
    (folder / SUITE).write_bytes(orjson.dumps(make_suite_record()))
    (folder / GROWTH).write_bytes(orjson.dumps(make_growth_record()))
    return folder


def publish(history: Path, text: str) -> str:
    document = history.parent / "performance.md"
    document.write_text(text)
    assert main(["publish", "--history", str(history), "--document", str(document)]) == 0
    return document.read_text()


def test_a_table_is_filled_in_between_its_marks_and_nothing_else_changes(history: Path) -> None:
    text = f"Before.\n<!-- {SUITE} ratios -->\nold\n<!-- end -->\nBetween.\n<!-- {GROWTH} backlog -->\n<!-- end -->\n"
    published = publish(history, text)
    assert published.startswith(f"Before.\n<!-- {SUITE} ratios -->\n|  | accepted |")
    assert f"| {BARE} | 1.00 |" in published
    assert "| 100,000 |" in published
    assert "old" not in published
    assert publish(history, published) == published


@pytest.mark.parametrize("marks", ["<!-- gone.json ratios -->\n<!-- end -->", f"<!-- {SUITE} gone -->\n<!-- end -->"])
def test_a_table_that_does_not_exist_is_an_error(history: Path, marks: str, capsys: pytest.CaptureFixture[str]) -> None:
    document = history.parent / "performance.md"
    document.write_text(marks)
    assert main(["publish", "--history", str(history), "--document", str(document)]) == 1
    assert "gone" in capsys.readouterr().err


def test_every_record_is_drawn_and_drawn_the_same_each_time(history: Path) -> None:
    records = read_records(history)
    drawn = draw_all(records)
    assert {name.partition("-abc1234-")[2] for name in drawn if name.startswith("growth")} == {
        "indexers",
        "reads",
        "writes",
        "backlog",
    }
    assert {"history", f"{SUITE.removesuffix('.json')}-ratios"} <= drawn.keys()
    assert drawn == draw_all(records)


def test_a_record_is_named_so_that_names_sort_by_time() -> None:
    earlier, later = (name_record("suite", datetime(2026, 11, day, 4, 5, tzinfo=UTC), "abc1234") for day in (9, 24))
    assert earlier == "suite-2026-11-09-0405-abc1234.json"
    assert earlier < later
