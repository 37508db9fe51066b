"""Finds a Chromium for the tests of the page. As root on Debian it installs that of the distribution."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from hitcounter_devstack.errors import MissingPartError
from hitcounter_devstack.packages import can_install, install_packages

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MACOS_PROGRAMS = (
    Path("/Applications/Chromium.app/Contents/MacOS/Chromium"),
    Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"),
)
DEBIAN_PACKAGES: Sequence[str] = ("chromium", "fonts-inter")
"""Inter is the first font that the page asks for: pictures of it then look the same on every machine."""
FIX = (
    "install Chromium or Chrome (Debian: sudo apt-get install chromium fonts-inter; "
    "Ubuntu: sudo snap install chromium; macOS: brew install --cask chromium)"
)


def find_browser() -> Path | None:
    """Return a Chromium, or None if there is none."""
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is not None:
        return Path(found)
    return next((program for program in MACOS_PROGRAMS if program.exists()), None)


def require_browser() -> Path:
    """Return a Chromium; as root on Debian it is installed when there is none.

    Raises:
        MissingPartError: there is none; says what to install.
    """
    browser = find_browser()
    if browser is None and can_install():
        install_packages(DEBIAN_PACKAGES)
        browser = find_browser()
    if browser is None:
        raise MissingPartError("The tests of the page drive a Chromium, and there is none", FIX)
    return browser
