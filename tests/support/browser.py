"""The distribution's Chromium, headless, driven by Playwright."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from hitcounter_devstack.browser import require_browser
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Start a browser with an empty home folder, and end it with everything that is open in it.

    While it is open, no asyncio code runs in this thread: Playwright's own event loop does.
    """
    with tempfile.TemporaryDirectory(prefix="hitcounter-", ignore_cleanup_errors=True) as home:
        environment: dict[str, str | float | bool] = {"HOME": home, "PATH": os.defpath, "LANG": "C.UTF-8"}
        program = require_browser()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program, env=environment)
            try:
                yield browser
            finally:
                browser.close()


@dataclass
class Tab:
    """One page, and what it reported."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    """Exceptions, errors and warnings, those of the Content-Security-Policy included."""
    requests: list[str] = field(default_factory=list)
    """Every address it asked for."""

    def note(self, message: ConsoleMessage) -> None:
        """Keep what the browser complains about."""
        if message.type in ("error", "warning", "assert"):
            self.complaints.append(f"{message.text} {message.location}")


def open_tab(browser: Browser, url: str, screen: Mapping[str, Any] | None = None) -> Tab:
    """Open the address on a screen: options of Playwright's `new_context`."""
    context = browser.new_context(reduced_motion="reduce", timezone_id="UTC", **(screen or {}))
    tab = Tab(context.new_page())
    tab.page.on("console", tab.note)
    tab.page.on("pageerror", lambda error: tab.complaints.append(str(error)))
    tab.page.on("request", lambda request: tab.requests.append(request.url))
    tab.page.goto(url)
    return tab
