"""Small libraries in C that are preloaded into a process, to make the world it sees a worse one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def build_library(source: Path, library: Path) -> None:
    """Compile one C file into a library for LD_PRELOAD; fails the test where there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.fail(f"a C compiler is needed to build {source.name}: apt-get install gcc libc6-dev", pytrace=False)
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl", "-lpthread"]
    subprocess.run(command, check=True, capture_output=True)
