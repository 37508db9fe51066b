"""The short form of the soak: the three worst faults in three minutes. `make soak` is the long one."""

from __future__ import annotations

import sys

import pytest

from tests.soak.plan import build_short
from tests.soak.report import TOO_BUSY
from tests.soak.run import RATE, run

SEED = 2026


@pytest.mark.timeout(900)  # of which a good run takes three and a half minutes
def test_nobody_waits_for_a_killed_indexer_a_red_day_or_a_demoted_redis_at_shipped_settings() -> None:
    report = run(build_short(SEED, RATE), sys.stdout.write)
    if report.exit_code == TOO_BUSY:
        pytest.exit(report.render(), returncode=TOO_BUSY)
    assert report.exit_code == 0, report.render()
