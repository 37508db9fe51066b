"""The rings of tests are the ones that the documents list and that make runs."""

from __future__ import annotations

import re

from tests.consistency.house import ROOT, committed_files


def rings() -> set[str]:
    folders = {path.relative_to(ROOT).parts for path in committed_files() if path.name.startswith("test_")}
    return {parts[1] for parts in folders if parts[0] == "tests"}


def test_readme_of_the_tests_lists_every_ring() -> None:
    described = re.findall(r"^\| `([a-z]+)/` \|", (ROOT / "tests/README.md").read_text(), re.MULTILINE)
    assert set(described) == rings()


def test_make_runs_every_ring() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert not {ring for ring in rings() if f"tests/{ring}" not in makefile}
