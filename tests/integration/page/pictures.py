"""Takes the pictures of the page that the README shows, from a real installation under a load of some minutes.

    .venv/bin/python -m tests.integration.page.pictures

Look at them before committing them. They are no test's business: numbers and times differ each time.
"""

from __future__ import annotations

import json
import math
import random
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hitcounter_devstack import ElasticsearchServer, RedisServer
from playwright.sync_api import Page, expect

from tests.support.browser import open_browser, open_tab
from tests.support.stack import Api, Stack

FOLDER = Path(__file__).parents[3] / "docs/images"
ID = "page/startseite"
LOAD_SECONDS = 125.0
"""A little more than the traces on the page go back."""
WIDE = {"viewport": {"width": 1120, "height": 1200}}
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True}
SCREENS: dict[str, dict[str, Any]] = {"page": WIDE, "page-dark": {**WIDE, "color_scheme": "dark"}, "page-phone": PHONE}


def main() -> None:
    """Write the pictures."""
    with (
        tempfile.TemporaryDirectory(prefix="hitcounter-", ignore_cleanup_errors=True) as name,
        RedisServer(Path(name) / "redis") as redis,
        ElasticsearchServer(Path(name) / "elasticsearch") as elasticsearch,
        Stack(redis.url, elasticsearch.url, Path(name)) as stack,
        open_browser() as browser,
    ):
        stack.indexer()
        api = stack.api(HITCOUNTER_HTTP__PAGE="true")
        post(api, list(build_past(datetime.now(UTC))))
        pages = {name: open_tab(browser, f"{api.url}/#id={ID}", screen).page for name, screen in SCREENS.items()}
        for page in pages.values():
            expect(page.locator("#bars rect")).to_have_count(60, timeout=60_000)
        make_load(api, pages)


def make_load(api: Api, pages: dict[str, Page]) -> None:
    """Send waves of hits, and take the pictures at their end, while they still come."""
    left = list(pages.items())
    started = time.monotonic()
    while left:
        seconds = time.monotonic() - started
        if seconds > LOAD_SECONDS + 2 * (len(pages) - len(left)):
            name, page = left.pop(0)
            page.screenshot(path=FOLDER / f"{name}.png")
        hits = int(260 * (1.5 + math.sin(seconds / 14) + 0.5 * math.sin(seconds / 3.7)) * random.uniform(0.9, 1.1))
        post(api, [{"id": f"page/{random.randrange(500)}"} for _ in range(max(1, hits))] + [{"id": ID}] * 3)
        pages["page"].wait_for_timeout(100)  # Playwright's own: it takes in what the pages report


def build_past(now: datetime) -> Iterator[dict[str, object]]:
    """Yield hits of the last three days: many by day, few by night, and some in each minute of the last hour."""
    for minutes in range(61, 3 * 24 * 60 - 5, 12):
        time_ = now - timedelta(minutes=minutes)
        by_day = 1.15 + math.sin((time_.hour + time_.minute / 60 - 9) / 24 * 2 * math.pi)
        yield _build_hit(time_, 400 * by_day * random.uniform(0.85, 1.15))
    for minutes in range(1, 60):
        yield _build_hit(
            now - timedelta(minutes=minutes), 900 * (1.6 + math.sin(minutes / 8)) * random.uniform(0.8, 1.2)
        )


def _build_hit(time_: datetime, weight: float) -> dict[str, object]:
    return {"id": ID, "timestamp": time_.isoformat(), "weight": max(1, int(weight))}


def post(api: Api, hits: Sequence[Mapping[str, object]]) -> None:
    """Track the hits."""
    request = urllib.request.Request(f"{api.url}/analytics/batch", data=json.dumps(hits).encode())
    urllib.request.urlopen(request, timeout=30).close()


if __name__ == "__main__":
    main()
