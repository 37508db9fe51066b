"""The workflows of CI are sound, and run commands that exist. zizmor and the schemas are part of `make check`."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.chart.rendering import find_tool
from tests.consistency.workspace import ROOT, make_targets

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yaml"))


def test_actionlint_finds_nothing_in_the_workflows() -> None:
    command = [find_tool("actionlint"), "-no-color", *map(str, WORKFLOWS)]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.stdout + answer.stderr == ""


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_make_target_and_script_of_a_workflow_exists(path: object) -> None:
    text = (ROOT / str(path)).read_text()
    targets = set(re.findall(r"\bmake ([a-z-]+)", text)) | set(re.findall(r"^ +- target: (\S+)$", text, re.MULTILINE))
    assert targets <= set(make_targets())
    assert [
        name
        for name in re.findall(r"\b(?:tools|services|k8s|charts)/[\w./-]+\.\w+", text)
        if not (ROOT / name).exists()
    ] == []
