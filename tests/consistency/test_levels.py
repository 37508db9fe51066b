"""The levels of tests are the ones that the documents list and that make runs."""

from __future__ import annotations

import re

from tests.consistency.workspace import ROOT, committed_files


def levels(pattern: str) -> set[str]:
    """Return the folders of tests/ in which a file of that name is."""
    return {
        path.relative_to(ROOT).parts[1]
        for path in committed_files()
        if path.is_relative_to(ROOT / "tests") and re.fullmatch(pattern, path.name)
    }


def test_readme_of_the_tests_lists_every_ring() -> None:
    described = re.findall(r"^\| `([a-z]+)/` \|", (ROOT / "tests/README.md").read_text(), re.MULTILINE)
    assert set(described) == levels(r"test_.+\.py|__main__\.py")


def test_make_runs_every_ring_of_pytest() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert not {level for level in levels(r"test_.+\.py") if f"tests/{level}" not in makefile}
