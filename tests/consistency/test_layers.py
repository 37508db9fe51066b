"""Every member of the workspace is listed wherever members are; `make check` runs the layer rules themselves."""

from __future__ import annotations

import configparser
import re

import pytest

from tests.consistency.workspace import MEMBERS, ROOT, committed_texts, read_toml

MODULES = {path.name for member in MEMBERS for path in (member / "src").iterdir() if path.is_dir()}


def test_import_contracts_list_every_package() -> None:
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter")
    assert set(contracts["importlinter"]["root_packages"].split()) == MODULES


def test_every_package_is_checked_by_mypy_from_its_source() -> None:
    path = read_toml(ROOT / "pyproject.toml")["tool"]["mypy"]["mypy_path"]
    assert set(path.split(":")) == {str((member / "src").relative_to(ROOT)) for member in MEMBERS}


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.name)
def test_member_is_named_wherever_the_workspace_lists_its_members(member: object) -> None:
    name = read_toml(ROOT / str(member) / "pyproject.toml")["project"]["name"]
    workspace = read_toml(ROOT / "pyproject.toml")
    assert name in {dependency.partition("[")[0] for dependency in workspace["project"]["dependencies"]}
    assert workspace["tool"]["uv"]["sources"][name] == {"workspace": True}
    members = re.search(r"^members=\((.+)\)$", (ROOT / "tools/lock.sh").read_text(), re.MULTILINE)
    assert members is not None
    assert name in members[1].split()


def test_chart_names_none_of_our_packages() -> None:
    packages = "|".join(sorted(MODULES, key=len, reverse=True))
    use = re.compile(rf"""(?:\bimport|\bfrom|-m["',]*) +["']?(?:{packages})\b""")
    assert not [path for path, text in committed_texts() if path.startswith(("charts/", "k8s/")) and use.search(text)]
