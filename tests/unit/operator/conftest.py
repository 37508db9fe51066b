"""One operator over fakes, for the tests of its loop."""

from __future__ import annotations

import pytest

from tests.unit.operator.fakes import Site


@pytest.fixture
def site() -> Site:
    """A site with one indexer and a HitCounter that is scaled by the operator; no turn was taken yet."""
    site = Site()
    site.create(maxReplicas=20, hitsPerBusySecond=1000)
    return site
