"""The chart's test (`helm test`), run as it is against the API."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.contract.api.server import Server

SCRIPT = Path(__file__).parents[3] / "charts/hitcounter/files/count_a_hit.py"
NOWHERE = "http://127.0.0.1:1"


def test_the_charts_test_follows_no_proxy_of_its_environment(server: Server) -> None:
    proxies = dict.fromkeys(("http_proxy", "HTTP_PROXY", "ALL_PROXY"), NOWHERE)
    result = subprocess.run(
        [sys.executable, SCRIPT, server.url, "1"], env=proxies, capture_output=True, text=True, timeout=30, check=False
    )
    assert "posted one hit" in result.stdout, result.stderr
    assert len(server.stream.accepted_ids) == 1
