"""Which parts a hit passes: the usual ones, unless traces are on; and off means that nothing of them is even loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hitcounter.errors import ConfigurationError
from hitcounter.settings import TracingSettings
from hitcounter_api.__main__ import Makers, choose_makers
from hitcounter_api.hot_path import HotPath
from hitcounter_api.intake import Intake

OF_TRACES = ["hitcounter.tracing", "hitcounter_api.tracing", "opentelemetry.sdk.trace", "opentelemetry.exporter"]
"""What is loaded for traces. The interface of OpenTelemetry is not among it: FastAPI always brings it along."""

LOAD = """
import sys
from hitcounter_api.__main__ import choose_makers
from hitcounter.settings import TracingSettings

with choose_makers(TracingSettings(enabled={enabled}, endpoint="http://127.0.0.1:9")):
    print(*sys.modules, sep="\\n")
"""


def loaded_modules(*, enabled: bool) -> set[str]:
    """Return what a process has loaded once its parts are chosen."""
    command = [sys.executable, "-c", LOAD.format(enabled=enabled)]
    return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())


def test_parts_that_trace_are_loaded_only_where_traces_are_on() -> None:
    assert not loaded_modules(enabled=False) & set(OF_TRACES)
    assert loaded_modules(enabled=True) >= set(OF_TRACES)


def test_without_traces_the_parts_are_the_very_usual_ones() -> None:
    with choose_makers(TracingSettings()) as makers:
        assert makers == Makers(Intake, HotPath)


def test_traces_without_the_extra_are_a_mistake_in_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hitcounter.tracing", None)
    with (
        pytest.raises(ConfigurationError, match=r"HITCOUNTER_TRACING__ENABLED: .*extra `tracing`"),
        choose_makers(TracingSettings(enabled=True)),
    ):
        pass
