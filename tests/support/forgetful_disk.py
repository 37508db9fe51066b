"""A Redis on a disk that forgets what was not synced, as a power cut makes it, or on a slow one (forgetful_disk.c)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from hitcounter_devstack import RedisServer
from hitcounter_devstack.server import Command

from tests.support.preload import build_library

_SOURCE = Path(__file__).with_suffix(".c")


class ForgetfulRedis(RedisServer):
    """A Redis whose `kill` loses all that its append-only file had not synced."""

    _disk: Mapping[str, str] = MappingProxyType({})
    """What the disk is told, by its environment."""

    def _prepare(self) -> Command:
        command = super()._prepare()
        library = self.data_dir / "forgetful_disk.so"
        build_library(_SOURCE, library)
        environment = {**command.environment, **self._disk, "LD_PRELOAD": str(library)}
        return Command(command.arguments, environment, command.user)


class SlowRedis(ForgetfulRedis):
    """A Redis whose disk forgets nothing, but takes so long for each sync of its append-only file."""

    def __init__(self, data_dir: Path, *, fsync_ms: int, options: Mapping[str, str]) -> None:
        super().__init__(data_dir, options=options)
        self._disk = {"FORGETFUL_FSYNC_MS": str(fsync_ms)}
