"""Hot reload, as the dev images do it: tools/reload.py runs a command anew for each change of a source."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chart.rendering import ROOT

Reloaded = subprocess.Popen[str]
END = "import service; print('runs', service.VERSION, flush=True)"
SERVE = f"{END}; import signal; signal.pause()"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "service.py"
    source.write_text("VERSION = 1\n")
    return source


@pytest.fixture(params=[SERVE])
def reloaded(request: pytest.FixtureRequest, source: Path) -> Iterator[Reloaded]:
    environment = os.environ | {"PYTHONPATH": str(source.parent), "PYTHONDONTWRITEBYTECODE": "1"}  # noqa: TID251
    command = [sys.executable, str(ROOT / "tools/reload.py"), sys.executable, "-c", request.param]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.terminate()


def next_line(process: Reloaded) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_edit_runs_the_command_anew(reloaded: Reloaded, source: Path) -> None:
    assert next_line(reloaded) == "runs 1"
    source.write_text("VERSION = 2\n")
    assert next_line(reloaded) == "runs 2"


@pytest.mark.parametrize("reloaded", [END], indirect=True)
def test_command_that_ended_is_run_again_after_the_next_edit(reloaded: Reloaded, source: Path) -> None:
    assert next_line(reloaded) == "runs 1"
    source.write_text("VERSION = 2\n")
    assert next_line(reloaded) == "runs 2"


def test_end_of_it_is_the_end_of_the_command(reloaded: Reloaded) -> None:
    assert next_line(reloaded) == "runs 1"
    reloaded.send_signal(signal.SIGTERM)
    assert reloaded.wait(timeout=20) == 0
    assert next_line(reloaded) == "", "nobody is left to write"
