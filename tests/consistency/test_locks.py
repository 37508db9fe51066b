"""The locks hold what the parts declare, checked by hash, from wherever the packages come."""

from __future__ import annotations

import re

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.consistency.workspace import MEMBERS, ROOT, read_toml

SERVICES = ["api", "indexer", "operator"]
LOCKS = [*SERVICES, "dev"]


def pins(lock: str) -> dict[str, str]:
    """Return the version of each package in a lock."""
    text = (ROOT / "requirements" / f"{lock}.lock").read_text()
    return dict(re.findall(r"^([a-z0-9.-]+)==([^\s;]+)", text, re.MULTILINE))


def declared(lock: str) -> list[Requirement]:
    """Return what the parts that a lock is for declare, those of the workspace itself aside."""
    projects = {path: read_toml(path / "pyproject.toml")["project"] for path in MEMBERS}
    names = {project["name"] for project in projects.values()}
    parts = [path for path in MEMBERS if lock == "dev" or path.name in ("hitcounter", lock)]
    lines = [line for path in parts for line in projects[path].get("dependencies", [])]
    if lock == "dev":
        lines += read_toml(ROOT / "pyproject.toml")["dependency-groups"]["dev"]
    return [requirement for line in lines if (requirement := Requirement(line)).name not in names]


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_holds_a_fitting_version_of_every_declared_dependency(lock: str) -> None:
    locked = pins(lock)
    unfit = {
        str(requirement): locked.get(canonicalize_name(requirement.name))
        for requirement in declared(lock)
        if not requirement.specifier.contains(locked.get(canonicalize_name(requirement.name), "0"), prereleases=True)
        or canonicalize_name(requirement.name) not in locked
    }
    assert not unfit, "run: make lock"


@pytest.mark.parametrize("lock", SERVICES)
def test_service_runs_with_the_versions_that_the_tests_run_with(lock: str) -> None:
    tested = pins("dev")
    assert {name: tested.get(name) for name in pins(lock)} == pins(lock)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_hashes_and_no_address(lock: str) -> None:
    text = (ROOT / "requirements" / f"{lock}.lock").read_text()
    without = [
        block.split("==")[0]
        for block in re.split(r"\n(?=[a-z0-9])", text)
        if "==" in block and "--hash=sha256:" not in block
    ]
    assert not without
    assert "://" not in text
    assert set(re.findall(r"--[a-z-]+", text)) == {"--hash"}
