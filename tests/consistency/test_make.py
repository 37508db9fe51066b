"""The commands that the documents tell people to type are there."""

from __future__ import annotations

import re

from tests.consistency.workspace import MEMBERS, ROOT, make_targets, markdown_files, read_toml

MENTION = re.compile(r"`make ((?:[a-z-]+ ?)+)`")


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
