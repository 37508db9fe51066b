"""There is one version: of every part, and of every tool that is named twice."""

from __future__ import annotations

import re

import hitcounter

from tests.consistency.test_locks import pins
from tests.consistency.workspace import MEMBERS, ROOT, read_toml


def test_all_parts_have_the_version_of_the_foundation() -> None:
    versions = {str(path): read_toml(path / "pyproject.toml")["project"]["version"] for path in [ROOT, *MEMBERS]}
    assert versions == dict.fromkeys(versions, hitcounter.__version__)


def test_all_parts_ask_for_the_same_python() -> None:
    wanted = {read_toml(path / "pyproject.toml")["project"]["requires-python"] for path in [ROOT, *MEMBERS]}
    assert wanted == {">=3.11"}
    assert read_toml(ROOT / "pyproject.toml")["tool"]["ruff"]["target-version"] == "py311"
    assert read_toml(ROOT / "pyproject.toml")["tool"]["mypy"]["python_version"] == "3.11"
    assert "--python-version 3.11" in (ROOT / "tools/lock.sh").read_text()


def test_setup_installs_the_uv_that_is_locked() -> None:
    installed = re.search(r"^UV_VERSION=(.+)$", (ROOT / "tools/setup.sh").read_text(), re.MULTILINE)
    assert installed is not None
    assert installed[1] == pins("dev")["uv"]
