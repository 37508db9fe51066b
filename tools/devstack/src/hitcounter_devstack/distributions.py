"""Elasticsearch: fetched once from Maven Central, verified, and unpacked into the cache, which is then only read.

It is the distribution that Elastic publishes for integration tests: the full server with few modules. It has everything
that hitcounter uses.
"""

import contextlib
import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from hitcounter_devstack.environment import cache_folder
from hitcounter_devstack.errors import DevstackError, MissingPartError
from hitcounter_devstack.java import MODULES_OF_9, JavaNeed
from hitcounter_devstack.locks import exclusive
from hitcounter_devstack.packages import can_install, install_packages
from hitcounter_devstack.progress import say, ticking

COORDINATES = "org.elasticsearch.distribution.integ-test-zip:elasticsearch:{version}:zip"
DOWNLOAD_SECONDS = 1800


@dataclass(frozen=True)
class ElasticsearchRelease:
    """One version of Elasticsearch that we know and test.

    Attributes:
        version: the full version.
        java: what it asks of its Java.
        sha512: of the zip on Maven Central.
    """

    version: str
    java: JavaNeed
    sha512: str

    @property
    def home(self) -> Path:
        """The folder in the cache where it is, or will be."""
        return cache_folder() / f"elasticsearch-{self.version}"

    @property
    def is_unpacked(self) -> bool:
        """Whether it is in the cache."""
        return self.home.exists()


ELASTICSEARCH_8 = ElasticsearchRelease(
    "8.19.8",
    JavaNeed(17),
    "fa56c50fa80080f19bb9875348b019785e2ec53848168f007d40d81ca3cb7031"
    "6b45f53f20bb63cc2913ddad703711ce70f67dae5533cc5fd9db84d3f89f5241",
)
ELASTICSEARCH_9 = ElasticsearchRelease(
    "9.3.2",
    JavaNeed(21, MODULES_OF_9),
    "3808f6d3156c5c08b864323aee33eb3abcb369979fea36949ff002bb8d851bc6"
    "bad7646826db9ccc614160b074d7da6da87e6b3144b9c0cb77c060f01c3e579a",
)


def require_elasticsearch(release: ElasticsearchRelease) -> Path:
    """Return the folder of the unpacked distribution; downloads it the first time, and shows the progress.

    Two processes may ask at once: one downloads, the other waits. A half-made folder never has the final name.

    Raises:
        MissingPartError: Maven is missing, or cannot reach Maven Central.
        DevstackError: what came is not what Elastic published.
    """
    if release.is_unpacked:
        return release.home
    with exclusive(release.home.name):
        if not release.is_unpacked:
            with tempfile.TemporaryDirectory(dir=cache_folder(), prefix="download-") as folder:
                archive = _download(release, Path(folder))
                _verify(archive, release)
                _unpack(archive, Path(folder), release.home)
    return release.home


def _download(release: ElasticsearchRelease, repository: Path) -> Path:
    """Let Maven fetch the zip, by the user's mirrors and proxies, into a repository that only this download uses."""
    artifact = COORDINATES.format(version=release.version)
    options = ["--quiet", "--batch-mode", f"-Dmaven.repo.local={repository}", "-Dtransitive=false"]
    command = [_require_maven(), *options, "dependency:get", f"-Dartifact={artifact}"]
    with ticking(f"downloading Elasticsearch {release.version} from Maven Central", lambda: _size(repository)):
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DOWNLOAD_SECONDS)
    archive = next(repository.rglob(f"elasticsearch-{release.version}.zip"), None)
    if answer.returncode != 0 or archive is None:
        reason = next((line for line in answer.stdout.splitlines() if "ERROR" in line), answer.stderr)
        fix = f"check the network and Maven's settings, then see: mvn dependency:get -Dartifact={artifact}"
        raise MissingPartError(f"Maven could not fetch Elasticsearch {release.version}: {reason.strip()}", fix)
    return archive


def _require_maven() -> str:
    if shutil.which("mvn") is None and can_install():
        install_packages(["maven"])
    program = shutil.which("mvn")
    if program is None:
        fix = "install Maven (Debian, Ubuntu: sudo apt-get install maven; macOS: brew install maven)"
        raise MissingPartError("Elasticsearch comes from Maven Central, and there is no mvn in PATH", fix)
    return program


def _size(folder: Path) -> str:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # Maven renames and removes meanwhile
                total += Path(parent, name).lstat().st_size
    return f"{total / 1e6:.0f} MB so far"


def _verify(archive: Path, release: ElasticsearchRelease) -> None:
    with archive.open("rb") as content:
        found = hashlib.file_digest(content, "sha512").hexdigest()
    if found != release.sha512:
        raise DevstackError(
            f"Elasticsearch {release.version} from Maven has the SHA-512 {found[:16]}…, but Elastic's has "
            f"{release.sha512[:16]}…. Nothing was installed; find out which mirror answered."
        )


def _unpack(archive: Path, beside: Path, home: Path) -> None:
    say(f"unpacking {archive.name} into {home}")
    unpacked = beside / "unpacked"
    with zipfile.ZipFile(archive) as content:
        for entry in content.infolist():
            path = Path(content.extract(entry, unpacked))
            # zipfile forgets the modes. Everybody may read: root's server runs as somebody else.
            executable = 0o111 if entry.is_dir() or (entry.external_attr >> 16) & stat.S_IXUSR else 0
            path.chmod(0o644 | executable)
    (unpacked / home.name).rename(home)
