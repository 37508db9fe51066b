"""Large batches beside single hits, on the real process."""

from __future__ import annotations

import statistics
import threading
from pathlib import Path

import pytest
from hitcounter_devstack import RedisServer

from tests.integration.api.asking import ask, track
from tests.support.stack import Stack

NOWHERE = "http://127.0.0.1:1"
MEBIBYTE = 1024 * 1024


@pytest.mark.parametrize(
    "body", [b"1\n" * (MEBIBYTE // 2), b"[" + b"[]," * (MEBIBYTE // 3 - 2) + b"[]]"], ids=["lines", "array"]
)
def test_large_bodies_of_no_hits_delay_no_single_hit(redis_server: RedisServer, folder: Path, body: bytes) -> None:
    with Stack(redis_server.url, NOWHERE, folder) as stack:
        api = stack.api()
        alone = statistics.median(track(api).seconds for _ in range(50))
        is_over = threading.Event()
        statuses = []

        def send() -> None:
            while not is_over.is_set():
                statuses.append(ask(api, "/analytics/batch", body).status)

        sender = threading.Thread(target=send)
        sender.start()
        seconds = [track(api).seconds for _ in range(100)]
        is_over.set()
        sender.join()
        assert len(statuses) > 3
        assert set(statuses) <= {413, 422}
        assert statistics.median(seconds) < 0.03 + 3 * alone
