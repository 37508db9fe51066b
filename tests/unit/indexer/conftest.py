from __future__ import annotations

import pytest

from tests.unit.indexer.fakes import Rig


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    """An indexer between fakes that does not wait long before it tries again."""
    for module in ("indexer", "conditions", "entry_writer"):
        monkeypatch.setattr(f"hitcounter_indexer.{module}.backoff_seconds", lambda _attempt, **_bounds: 0.001)
    return Rig()
