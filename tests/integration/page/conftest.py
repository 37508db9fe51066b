"""A headless Chromium for all tests of a module, and tabs that are closed after each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hitcounter_devstack.errors import MissingPartError
from playwright.sync_api import Browser, expect

from tests.support.browser import Tab, open_browser, open_tab

expect.set_options(timeout=30_000)

OpenTab = Callable[..., Tab]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    try:
        with open_browser() as browser:
            yield browser
    except MissingPartError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture
def visit(browser: Browser) -> Iterator[OpenTab]:
    """Open an address, optionally on a screen. What is open keeps polling, so it is closed at the end of the test."""
    yield lambda url, screen=None: open_tab(browser, url, screen)
    for context in browser.contexts:
        context.close()
