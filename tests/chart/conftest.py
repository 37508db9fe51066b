"""Every case of the chart, rendered once for the whole level."""

import pytest

from tests.chart.cases import CASES
from tests.chart.rendering import Rendering, render_all


@pytest.fixture(scope="session")
def renderings() -> list[Rendering]:
    """What Helm 4 makes of every case."""
    return render_all(CASES)
