"""The API on real stores, and a faulty wire to each of them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="hitcounter-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
