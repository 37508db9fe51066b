"""The observer of the indexer exists only if tracing is enabled; otherwise nothing of tracing is loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hitcounter.errors import ConfigurationError
from hitcounter.settings import TracingSettings
from hitcounter_indexer.__main__ import open_observer

OF_TRACES = ["hitcounter.tracing", "hitcounter_indexer.tracing", "opentelemetry.sdk.trace", "opentelemetry.exporter"]

LOAD = """
import sys
from hitcounter.settings import TracingSettings
from hitcounter_indexer.__main__ import open_observer

with open_observer(TracingSettings(enabled={enabled}, endpoint="http://127.0.0.1:9")):
    print(*sys.modules, sep="\\n")
"""


def loaded_modules(*, enabled: bool) -> set[str]:
    """Return what a process has loaded once its observer is open."""
    command = [sys.executable, "-c", LOAD.format(enabled=enabled)]
    return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())


def test_the_module_that_traces_is_loaded_only_if_tracing_is_enabled() -> None:
    assert not loaded_modules(enabled=False) & set(OF_TRACES)
    assert loaded_modules(enabled=True) >= set(OF_TRACES)


def test_there_is_no_observer_unless_tracing_is_enabled() -> None:
    with open_observer(TracingSettings()) as observer:
        assert observer is None


def test_traces_without_the_extra_are_a_mistake_in_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hitcounter.tracing", None)
    with (
        pytest.raises(ConfigurationError, match=r"HITCOUNTER_TRACING__ENABLED: .*extra `tracing`"),
        open_observer(TracingSettings(enabled=True)),
    ):
        pass
