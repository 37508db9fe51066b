"""Packages of the distribution, on Debian and Ubuntu: downloads and unpacks some, and installs some as root."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hitcounter_devstack.environment import inherited_environment
from hitcounter_devstack.errors import MissingPartError
from hitcounter_devstack.locks import exclusive
from hitcounter_devstack.progress import say, ticking


def can_use_apt() -> bool:
    """Say whether this is a Debian or Ubuntu."""
    return shutil.which("apt-get") is not None and shutil.which("dpkg") is not None


def can_install() -> bool:
    """Say whether we may install packages here."""
    return can_use_apt() and os.geteuid() == 0


def download_packages(names: Sequence[str], folder: Path) -> list[Path]:
    """Download packages into a folder without installing anything, and return their files.

    Raises:
        MissingPartError: the distribution's servers do not have them, or cannot be reached.
    """
    say(f"downloading {' '.join(names)} from the distribution")
    # As root, apt fetches as another user, who cannot write into our folder: let it stay root for this once.
    command = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *names]
    if not _succeeds(command, folder):
        if os.geteuid() == 0:
            _succeeds(["apt-get", "-q", "update"], folder)
        if not _succeeds(command, folder):
            raise MissingPartError(f"The packages {' '.join(names)} could not be downloaded", "sudo apt-get update")
    return sorted(folder.glob("*.deb"))


def unpack_packages(names: Sequence[str], home: Path) -> None:
    """Download packages and unpack them into a folder that did not exist; only a whole one ever has its name.

    Raises:
        MissingPartError: the distribution's servers do not have them, or cannot be reached.
    """
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent, prefix=f"{home.name}.") as beside:
        root = Path(beside) / "root"
        for package in download_packages(names, Path(beside)):
            subprocess.run(["dpkg", "-x", package, root], check=True)
        root.rename(home)


def dependencies(name: str) -> list[str]:
    """Return what a package of the distribution depends on itself; nothing where the package is not known."""
    command = ["apt-cache", "depends", name]
    if not _succeeds(command, Path("/")) and os.geteuid() == 0:
        _succeeds(["apt-get", "-q", "update"], Path("/"))
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return re.findall(r"^ +Depends: ([a-z0-9][a-z0-9.+-]+)$", found.stdout, re.MULTILINE)


def install_packages(names: Sequence[str]) -> None:
    """Install packages as root, without questions.

    Raises:
        MissingPartError: the installation failed.
    """
    install = ["apt-get", "-q", "install", "-y", "--no-install-recommends", *names]
    folder = Path("/")
    with exclusive("packages"), ticking(f"installing {' '.join(names)} from the distribution"):
        if not (_succeeds(["apt-get", "-q", "update"], folder) and _succeeds(install, folder)):
            raise MissingPartError(f"{' '.join(names)} could not be installed", " ".join(install))


def newest_java_on_offer() -> int | None:
    """Return the newest N for which this release has a package `openjdk-N-jre-headless`."""
    found = subprocess.run(
        ["apt-cache", "search", "--names-only", r"^openjdk-[0-9]+-jre-headless$"],
        capture_output=True,
        text=True,
        check=True,
    )
    numbers = [int(number) for number in re.findall(r"^openjdk-(\d+)-jre-headless", found.stdout, re.MULTILINE)]
    return max(numbers, default=None)


def _succeeds(command: Sequence[str], folder: Path) -> bool:
    environment = {**inherited_environment(), "DEBIAN_FRONTEND": "noninteractive"}
    answer = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    return answer.returncode == 0
