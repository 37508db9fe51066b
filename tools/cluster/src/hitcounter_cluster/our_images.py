"""The images of our services, built by `tools/images.sh` when their sources have changed."""

import hashlib
import subprocess
from pathlib import Path

import yaml
from hitcounter_devstack.environment import checkout
from hitcounter_devstack.errors import DevstackError
from hitcounter_devstack.progress import say

SOURCES = ("packages", "services", "requirements", "pyproject.toml", "charts/hitcounter/Chart.yaml", "tools/images.sh")


def require_our_archives() -> list[Path]:
    """Return the archives of our images; builds them when a source is newer, with the progress shown.

    Raises:
        DevstackError: the build failed; it has said why.
    """
    root = checkout()
    images, sources = root / "dist" / "images", _digest_of_sources(root)
    stamp = images / ".sources"
    if not stamp.exists() or stamp.read_text() != sources:
        say("building our images (tools/images.sh)")
        if subprocess.run([str(root / "tools" / "images.sh"), "--save"], cwd=root, check=False).returncode != 0:
            raise DevstackError("tools/images.sh failed")
        stamp.write_text(sources)
    return [images / f"hitcounter-{service}.tar" for service in _services(root)]


def our_images() -> list[str]:
    """Return the names of our images."""
    root = checkout()
    version = yaml.safe_load((root / "charts/hitcounter/Chart.yaml").read_text())["appVersion"]
    return [f"docker.io/library/hitcounter-{service}:{version}" for service in _services(root)]


def _services(root: Path) -> list[str]:
    return sorted(file.parent.name for file in root.glob("services/*/pyproject.toml"))


def _digest_of_sources(root: Path) -> str:
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *SOURCES]
    answer = subprocess.run(listing, cwd=root, capture_output=True, text=True, check=True)
    digest = hashlib.sha256()
    for name in sorted(filter(None, answer.stdout.split("\0"))):
        file = root / name
        digest.update(name.encode() + b"\0" + (file.read_bytes() if file.exists() else b"gone") + b"\0")
    return digest.hexdigest()
