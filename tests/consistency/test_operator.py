"""docs/operator.md tells every reason that the operator gives, and none that it does not."""

from __future__ import annotations

import re

from hitcounter_operator.resource import ConditionType
from hitcounter_operator.state import Reason

from tests.consistency.workspace import ROOT

DOCUMENT = (ROOT / "docs/operator.md").read_text()
SOURCES = sorted((ROOT / "services/operator/src/hitcounter_operator").glob("*.py"))


def rows(title: str) -> list[list[str]]:
    """Return the cells of the rows of the table whose first title that is."""
    _, _, table = DOCUMENT.partition(f"\n| {title} |")
    lines = table.partition("\n\n")[0].splitlines()[2:]
    return [line.strip("| ").split(" | ") for line in lines]


def words(text: str) -> set[str]:
    """Return the CamelCase words between back-ticks."""
    return set(re.findall(r"`([A-Z][A-Za-z]+)`", text))


def test_every_event_is_in_the_table_of_events() -> None:
    listed = words(" ".join(row[0] for row in rows("Event")))
    assert listed == {reason.value for reason in Reason} - {Reason.CONDITION_CHANGED.value}


def test_every_condition_is_in_the_table_of_conditions() -> None:
    assert [row[0].strip("`") for row in rows("condition")] == [kind.value for kind in ConditionType]


def test_every_reason_of_a_condition_is_told_and_none_that_there_is_not() -> None:
    text = " ".join(path.read_text() for path in SOURCES)
    given = set(re.findall(r'(?:Problem\(|Truth\.\w+, )\s*"(\w+)"', text)) | {"MetricsUnknown"}
    assert words(" ".join(cell for row in rows("condition") for cell in row[1:])) <= given
    assert given - {"AllWell"} <= words(DOCUMENT)
