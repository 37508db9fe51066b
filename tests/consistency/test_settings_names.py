"""Every variable that is named anywhere is one that a settings class reads."""

from __future__ import annotations

import re

from hitcounter_benchmark.settings import BenchmarkSettings

from tests.consistency.workspace import ROOT, committed_texts
from tools.docgen import SETTINGS, read_settings

VARIABLE = re.compile(r"\bHITCOUNTER_[A-Z0-9]+__[A-Z0-9_]*[A-Z0-9]\b")
TEST = re.compile(r"tests/.*/test_[^/]+$")
"""A test may name a variable that does not exist, to see it refused."""


def known_variables() -> set[str]:
    of_services = {setting.variable for kind in SETTINGS.values() for setting in read_settings(kind)}
    return of_services | {f"HITCOUNTER_BENCHMARK__{name.upper()}" for name in BenchmarkSettings.model_fields}


def test_every_variable_named_in_a_file_is_read_by_a_settings_class() -> None:
    known = known_variables()
    unknown = {
        f"{path}: {name}"
        for path, text in committed_texts()
        if not TEST.match(path)
        for name in VARIABLE.findall(text)
        if name not in known
    }
    assert not unknown


def test_every_port_in_the_documents_is_a_default_of_the_settings() -> None:
    defaults = {setting.default.strip("`") for kind in SETTINGS.values() for setting in read_settings(kind)}
    wrong = {
        f"{path}: {port}"
        for path, text in committed_texts()
        if path.endswith(".md") and (ROOT / path).parent.name != "decisions"
        for port in re.findall(r"\b(?:localhost|127\.0\.0\.1):(\d+)", text)
        if not any(port == default or f":{port}" in default for default in defaults)
    }
    assert not wrong
