"""A Redis on a disk that forgets what was not synced, as a power cut makes it (forgetful_disk.c)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hitcounter_devstack import RedisServer
from hitcounter_devstack.server import Command

_SOURCE = Path(__file__).with_suffix(".c")


class ForgetfulRedis(RedisServer):
    """A Redis whose `kill` loses all that its append-only file had not synced."""

    def _prepare(self) -> Command:
        command = super()._prepare()
        library = self.data_dir / "forgetful_disk.so"
        _build(library)
        return Command(command.arguments, {**command.environment, "LD_PRELOAD": str(library)}, command.user)


def _build(library: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.fail("a C compiler is needed to build the forgetful disk: apt-get install gcc libc6-dev", pytrace=False)
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(_SOURCE), "-ldl", "-lpthread"]
    subprocess.run(command, check=True, capture_output=True)
