"""Finds words and phrases that CONTRIBUTING.md ("Plain English") replaces, and spelling mistakes (codespell).

    .venv/bin/python tools/prose.py [FILE...]     all texts that git knows; status 1 if anything is found

User-facing strings, comments and docstrings count as prose, so Python and YAML are read as well. Decision records keep
the words of their day; generated and foreign files are left out.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
TESTS: Final = ROOT / "tests"
"""Read for phrases, but not for spelling: the tests contain mistakes on purpose."""
SUFFIXES: Final = frozenset({".md", ".py", ".yaml", ".yml", ".tpl", ".txt", ".sh", ".lua", ".html", ".proto", ".toml"})
LEFT_OUT: Final = re.compile(
    r"docs/decisions/|docs/lab\.md|CHANGELOG\.md|tools/prose\.py|requirements/|.*/schemas/|.*_pb2\.py|.*/go/"
)
REPLACED: Final = {
    r"\bstoreys?\b": "layer",
    r"\bthe house\b": "the layers, the project",
    r"\bat the rim\b": "in the I/O modules",
    r"\b(of|by) (ours|yours|theirs)\b": "our, your, their",
    r"\bto be rid of\b": "to uninstall, to remove",
    r"\bstands? (here|in|there|where|beside)\b": "is in, is listed here",
    r"\bpods at (least|most)\b": "minimum, maximum replicas",
    r"\bprocessor('s)? (time|seconds|request)\b": "CPU time, CPU request",
    r"\bin calm\b|\bcalm minutes\b": "under normal load",
    r"\bcan feed( on)?\b": "can keep up with",
    r"\binvented zero\b": "never returns 0 for a count that it could not read",
    r"\bcondemn(s|ed)?\b": "reject",
    r"\bwitness(es)?\b": "control document",
    r"\bweather\b": "outage",
    r"\ba way in\b|\bthe way in\b": "external access",
    r"\bso long as\b": "as long as, while",
    r"\bshort way\b|\blong way\b": "fast path, ASGI path",
    r"\bfor want of\b": "because there is no",
    r"\bis over\b(?! its| the| a)": "has ended, has expired",
    r"\bsaid so\b|\bsays so\b": "reports it, logs a warning",
}
"""Regular expressions, each with what to write instead."""
NAMES: Final = "hel,ans,ot,hist,convertor,convertors,notin"
"""Words that codespell would correct: `convertor` is Starlette's name, `NotIn` an operator of Kubernetes' selectors."""


def find_texts(arguments: list[str]) -> list[Path]:
    """Return the files to read, by their paths below the root."""
    names = (
        arguments
        or subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    )
    return [ROOT / name for name in names if Path(name).suffix in SUFFIXES and not LEFT_OUT.match(name)]


def find_phrases(text: str) -> list[tuple[int, str, str]]:
    """Return the line, the phrase and its replacement of each phrase in the text."""
    return [
        (number, match[0], instead)
        for number, line in enumerate(text.splitlines(), 1)
        for pattern, instead in REPLACED.items()
        for match in re.finditer(pattern, line, re.IGNORECASE)
    ]


def main(arguments: list[str]) -> int:
    """Print what is found; return 1 if that is anything."""
    texts = [path for path in find_texts(arguments) if path.is_file()]
    found = [
        f"{path.relative_to(ROOT)}:{line}: «{phrase}»: {instead}"
        for path in texts
        for line, phrase, instead in find_phrases(path.read_text())
    ]
    spelled = [str(path) for path in texts if TESTS not in path.parents]
    command = [str(Path(sys.executable).parent / "codespell"), f"--ignore-words-list={NAMES}", *spelled]
    spelling = ""
    if spelled:  # without files codespell reads everything
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        spelling = answer.stdout.replace(f"{ROOT}/", "")
    sys.stdout.write("".join(f"{line}\n" for line in found) + spelling)
    return 1 if found or spelling else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
