"""Reads the keys file, and reads it again while the API runs.

The file is read every two seconds and parsed if its bytes have changed. So it does not matter how it is replaced: a
mounted Secret (a symbolic link), a rename, or in place. The beginning of a YAML file can be valid, too, and lack the
prefixes of a key, so a changed file is parsed only when two reads give the same bytes. Reading and parsing happen in a
thread. A file that is not valid changes nothing: the last valid keys stay, and the fault is in the log, a metric and
the warnings of /readyz.
"""

from __future__ import annotations

import asyncio
import gc
import os
import time
from typing import Final

from hitcounter.health import Readiness
from hitcounter.logs import get_logger

from hitcounter_api.keys import FILE_MAX_BYTES, InvalidKeys, KeySet, parse_keys
from hitcounter_api.metrics import ApiMetrics

KEYS: Final = "keys"
_POLL_SECONDS: Final = 2.0
_SETTLE_SECONDS: Final = 0.1
_READS_MAX: Final = 10

log = get_logger()


def read_keys_file(path: str) -> bytes:
    """Return the bytes of the file.

    Raises:
        InvalidKeys: it cannot be read, or is too large.
    """
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            data = file.read(FILE_MAX_BYTES + 1)
    except OSError as error:
        raise InvalidKeys(f"the file cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InvalidKeys("the path is not valid") from error
    if len(data) > FILE_MAX_BYTES:
        raise InvalidKeys(f"the file has more than {FILE_MAX_BYTES:,} bytes")
    return data


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a pipe is empty then, and does not wait for a writer


def _pause() -> None:
    time.sleep(_SETTLE_SECONDS)


class KeysFile:
    """The keys of a file, as it was last valid.

    Args:
        path: the file.
        metrics: shows whether the file is valid.
        readiness: has a warning while it is not.

    Raises:
        InvalidKeys: there are no keys to start with.
    """

    def __init__(self, path: str, metrics: ApiMetrics, readiness: Readiness) -> None:
        self._path = path
        self._metrics = metrics
        self._readiness = readiness
        self._data = read_keys_file(path)
        self._invalid: tuple[bytes, str] | None = None
        """The last bytes that were not valid, and why: a large file is not parsed again every two seconds."""
        self.keys = parse_keys(self._data)
        self._note_valid()

    async def run(self) -> None:
        """Read the file again and again until cancelled."""
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            await self.reload()

    async def reload(self) -> None:
        """Read the file, and take its keys if they changed and are valid."""
        try:
            keys = await asyncio.to_thread(self._read)
        except InvalidKeys as error:
            self._metrics.keys_file_invalid.set(1)
            if self._readiness.warn(KEYS, [f"the keys file is not valid, so the last valid keys are used: {error}"]):
                log.error("the keys file is not valid; the last valid keys stay", reason=str(error))
        except Exception:  # the top of a loop: the next attempt may succeed
            log.exception("the keys file could not be read")
        else:
            if keys is not None:
                self.keys = keys
                log.info("the keys file was read", keys=len(keys))
            self._note_valid()

    def _read(self) -> KeySet | None:
        """Return the keys of the file; None if it has not changed since it was last valid."""
        data = self._read_whole()
        if data == self._data:
            return None
        if self._invalid is not None and data == self._invalid[0]:
            raise InvalidKeys(self._invalid[1])
        # A full garbage collection of the objects that parsing needs would block all responses for 0.1 s. They have no
        # cycles. Freezing them would also freeze what other code has now, such as connections, which would then stay.
        gc.disable()
        try:
            keys = parse_keys(data)
        except InvalidKeys as error:
            self._invalid = data, str(error)
            raise
        finally:
            gc.enable()
        self._data, self._invalid = data, None
        return keys

    def _read_whole(self) -> bytes:
        """Return the bytes of the file; if they have changed, when nobody is writing them any more."""
        data = read_keys_file(self._path)
        for _ in range(_READS_MAX):
            if data == self._data:
                return data
            _pause()
            before, data = data, read_keys_file(self._path)
            if data == before:
                return data
        raise InvalidKeys("the file is being written")

    def _note_valid(self) -> None:
        self._readiness.warn(KEYS, [])
        self._metrics.keys_file_invalid.set(0)
