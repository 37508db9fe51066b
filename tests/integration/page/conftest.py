"""A headless Chromium, one for all tests of a session."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hitcounter_devstack.errors import MissingPartError

from tests.support.browser import Browser


@pytest.fixture
def browser(running_browser: Browser) -> Iterator[Browser]:
    yield running_browser
    running_browser.close_tabs()


@pytest.fixture(scope="session")
def running_browser() -> Iterator[Browser]:
    with tempfile.TemporaryDirectory(prefix="hitcounter-", ignore_cleanup_errors=True) as folder:
        try:
            browser = Browser(Path(folder))
        except MissingPartError as error:
            pytest.fail(str(error), pytrace=False)
        with browser:
            yield browser
