"""Writes docs/appendix-tests.md: the tests behind each promise and each failure, by its id.

    .venv/bin/python tools/appendix.py [FILE]

The sentence of a row is only in guarantees.md, architecture.md or operator.md, and its tests are only in promises.yaml.
The level of a test follows from its folder.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import yaml

ROOT: Final = Path(__file__).parents[1]
DOCUMENTS: Final = ("guarantees.md", "architecture.md", "operator.md")

HEAD: Final = """\
# Appendix: tests

<!-- Written by tools/appendix.py (`make generate`). Edit promises.yaml or the three documents instead. -->

These tests show the promises in [guarantees.md](guarantees.md) and the behaviour under failures in
[architecture.md](architecture.md#when-something-fails) and [operator.md](operator.md#failures).
[tests/README.md](../tests/README.md) describes the levels. Tests at the levels `unit` and `contract` run our code
without real servers, with fakes that fail on demand. All others use real servers.
"""


def find_rows() -> Iterator[tuple[str, str, str]]:
    """Return the document, the id and the sentence of each row that has an id."""
    for document in DOCUMENTS:
        text = (ROOT / "docs" / document).read_text()
        for name, sentence in re.findall(r"^\| \[(\w+)\]\(appendix-tests\.md#\w+\) \| (.+?) \|", text, re.MULTILINE):
            yield document, name, sentence


def read_promises() -> Mapping[str, list[str]]:
    """Return the names of the tests of each id."""
    promises: Mapping[str, list[str]] = yaml.safe_load((ROOT / "docs/promises.yaml").read_text())
    return promises


def find_tests() -> Mapping[str, list[Path]]:
    """Return the files of each test, by its name; nearly all names are in one file only."""
    found: dict[str, list[Path]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE):
            found.setdefault(name, []).append(path.relative_to(ROOT))
    return found


def build_appendix() -> str:
    """Return docs/appendix-tests.md."""
    promises, tests, parts, last = read_promises(), find_tests(), [HEAD], ""
    for document, name, sentence in find_rows():
        if document != last:
            parts.append(f"## {(ROOT / 'docs' / document).read_text().splitlines()[0].removeprefix('# ')}\n")
        last = document
        shown = [
            f"- `{test}` ([{path.parts[1]}](../{path.as_posix()}))\n" for test in promises[name] for path in tests[test]
        ]
        parts.append(f"### {name}\n\n{sentence}\n\n{''.join(shown)}")
    return "\n".join(parts)


def main(arguments: list[str]) -> None:
    """Write the appendix to the file given, or to docs/."""
    Path(arguments[0] if arguments else ROOT / "docs/appendix-tests.md").write_text(build_appendix())


if __name__ == "__main__":
    main(sys.argv[1:])
