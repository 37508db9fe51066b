"""Each name of a key, a group or a field in Redis is in one place: hitcounter.stream and the scripts that it runs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hitcounter.indices import index_of, template_name, write_alias
from hitcounter.stream import GROUP, Keys, monitor, records

from tests.consistency.workspace import ROOT

STREAM = ROOT / "packages/hitcounter/src/hitcounter/stream"
SCRIPTS = STREAM.parent / "scripts"
OTHERS = [
    path
    for folder in ("packages", "services", "tools")
    for path in (ROOT / folder).rglob("*.py")
    if not path.is_relative_to(STREAM)
]


def string_constants(path: Path) -> Iterator[str | bytes]:
    """Return the strings of a module that are not documentation."""
    tree = ast.parse(path.read_text())
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes) and id(node) not in documentation:
            yield node.value


def key_names() -> set[str]:
    keys = Keys("x")
    names = [keys.stream, keys.ledger, keys.dead, keys.as_of, keys.as_of_lease, keys.producer(b"").rstrip(":")]
    return {name.removeprefix("{x}") for name in names}


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_holds_no_name_of_redis(path: Path) -> None:
    fields = {value for name, value in vars(records).items() if name.startswith("_FIELD_")}
    held = {
        constant
        for constant in string_constants(path)
        if (constant == GROUP and not path.is_relative_to(ROOT / "tools"))  # there it is a word like any other
        or constant in fields
        or (isinstance(constant, str) and any(re.search(rf"{name}\b", constant) for name in key_names()))
    }
    assert not held


def test_architecture_tells_every_name_that_others_may_rely_on() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    told = set(re.findall(r"^\| (?:Redis|Elasticsearch) \| `([^`]+)` \|", text, re.MULTILINE))
    keys, day = Keys("hitcounter"), index_of("hits", 1_795_392_000_000)
    in_redis = {keys.stream, keys.ledger, keys.dead, keys.as_of, keys.as_of_lease, f"{keys.producer(b'')}…"}
    assert told == in_redis | {day, write_alias(day), "hits", template_name("hits")}
    assert f"`{GROUP}`" in text


def test_scripts_name_no_key_and_no_group() -> None:
    text = "".join(path.read_text() for path in SCRIPTS.glob("*.lua"))
    code = re.sub(r"--.*", "", text)
    assert not [name for name in {*key_names(), GROUP} if name in code]


def test_scripts_name_the_fields_that_stream_names_and_no_others() -> None:
    code = re.sub(r"--.*", "", "".join(path.read_text() for path in SCRIPTS.glob("*.lua")))
    fields = {value.decode() for name, value in vars(records).items() if name.startswith("_FIELD_")}
    assert set(re.findall(r"'([a-z_]+)'", code)) == fields | set(monitor._LEDGER_FIELDS) | set(monitor._WORK_FIELDS)
