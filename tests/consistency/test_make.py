"""The commands that the documents tell people to type are there."""

from __future__ import annotations

import re

from tests.consistency.house import MEMBERS, ROOT, make_targets, markdown_files, read_toml, run

MENTION = re.compile(r"`make ((?:[a-z-]+ ?)+)`")


def test_make_help_lists_every_target() -> None:
    printed = re.sub(r"\x1b\[[0-9;]*m", "", run("make", "--no-print-directory", "help"))
    shown = dict(re.findall(r"^ {2}([a-z-]+) +(.+)$", printed, re.MULTILINE))
    assert shown == make_targets()


def test_every_target_has_its_sentence_and_is_phony() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):(?!=)", makefile, re.MULTILINE))
    assert targets == set(make_targets())
    assert targets == set(" ".join(re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)).split())


def test_contributing_describes_every_target_and_no_other() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    described = set(re.findall(r"^\| `make ([a-z-]+)`", text, re.MULTILINE))
    assert described == set(make_targets())


def test_every_make_command_in_the_documents_exists() -> None:
    targets = make_targets()
    unknown = {
        f"{path.relative_to(ROOT)}: make {target}"
        for path in markdown_files()
        for mention in MENTION.findall(path.read_text())
        for target in mention.split()
        if target not in targets
    }
    assert not unknown


def test_every_command_of_ours_in_the_documents_exists() -> None:
    scripts = {
        name for member in MEMBERS for name in read_toml(member / "pyproject.toml")["project"].get("scripts", {})
    }
    unknown = {
        f"{path.relative_to(ROOT)}: {command}"
        for path in markdown_files()
        for command in re.findall(r"`(hitcounter-[a-z]+)[ `]", path.read_text())
        if command not in scripts | {"hitcounter-hits"}  # the index template
    }
    assert not unknown
