"""The files of the workspace and how to read them: shared by the tests that compare one file with another."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MEMBERS = sorted(
    path.parent for pattern in ("packages", "services", "tools") for path in ROOT.glob(f"{pattern}/*/pyproject.toml")
)


def run(*command: str | Path) -> str:
    """Run a command at the root and return what it printed; fails with its output where it failed."""
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, f"{command[0]} exited with {answer.returncode}:\n{answer.stdout}{answer.stderr}"
    return answer.stdout


def read_toml(path: Path) -> dict[str, Any]:
    """Return a TOML file's content."""
    return tomllib.loads(path.read_text())


def committed_files() -> list[Path]:
    """Return the files that git knows, as they are now."""
    listed = run("git", "ls-files")
    return [path for name in listed.splitlines() if (path := ROOT / name).is_file()]


def committed_texts() -> Iterator[tuple[str, str]]:
    """Return (path from the root, content) of each committed file that is text."""
    for path in committed_files():
        try:
            yield str(path.relative_to(ROOT)), path.read_text()
        except UnicodeDecodeError:
            continue


def markdown_files() -> list[Path]:
    """Return the documents."""
    return [path for path in committed_files() if path.suffix == ".md"]


def make_targets() -> dict[str, str]:
    """Return the targets of the Makefile that are meant for people, with the sentence that `make help` prints."""
    found = re.findall(r"^([a-z-]+):.*?## (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return dict(found)
