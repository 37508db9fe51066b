"""What writes: the usual part, unless traces are on; and off means that nothing of them is even loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hitcounter.errors import ConfigurationError
from hitcounter.settings import TracingSettings
from hitcounter_indexer.__main__ import choose_writer
from hitcounter_indexer.entry_writer import EntryWriter

OF_TRACES = ["hitcounter.tracing", "hitcounter_indexer.tracing", "opentelemetry.sdk.trace", "opentelemetry.exporter"]

LOAD = """
import sys
from hitcounter.settings import TracingSettings
from hitcounter_indexer.__main__ import choose_writer

with choose_writer(TracingSettings(enabled={enabled}, endpoint="http://127.0.0.1:9")):
    print(*sys.modules, sep="\\n")
"""


def loaded_modules(*, enabled: bool) -> set[str]:
    """Return what a process has loaded once its writer is chosen."""
    command = [sys.executable, "-c", LOAD.format(enabled=enabled)]
    return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())


def test_the_part_that_traces_is_loaded_only_where_traces_are_on() -> None:
    assert not loaded_modules(enabled=False) & set(OF_TRACES)
    assert loaded_modules(enabled=True) >= set(OF_TRACES)


def test_without_traces_the_writer_is_the_very_usual_one() -> None:
    with choose_writer(TracingSettings()) as build_writer:
        assert build_writer is EntryWriter


def test_traces_without_the_extra_are_a_mistake_in_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hitcounter.tracing", None)
    with (
        pytest.raises(ConfigurationError, match=r"HITCOUNTER_TRACING__ENABLED: .*extra `tracing`"),
        choose_writer(TracingSettings(enabled=True)),
    ):
        pass
