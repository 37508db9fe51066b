import os

import pytest


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the settings of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith("HITCOUNTER_")]:  # noqa: TID251 - to empty it
        monkeypatch.delenv(name)
