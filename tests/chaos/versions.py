"""`python -m tests.chaos.versions COMMIT`: the api and the indexer of that commit beside the present ones, under load.

tests/integration/system/test_versions.py plays a version that is not there yet; this takes one that was: its code as
git has it, run by this Python with the libraries of today. All four processes are mixed as in an upgrade and in its
withdrawal, indexers are killed on the way, and in the end every id is compared with what the client was told.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from hitcounter_devstack import ElasticsearchServer, RedisServer
from hitcounter_devstack.services import Service

from tests.support.client import RecordingClient
from tests.support.stack import Api, Stack
from tests.support.verdict import LONGEST, assert_counted_exactly

_SOURCES: Final = ("packages/hitcounter/src", "services/api/src", "services/indexer/src")
_HITS: Final = 2000
"""How many are acknowledged in each mixture."""


class Version:
    """Starts the parts of one version."""

    def __init__(self, stack: Stack, sources: Path | None) -> None:
        """Build one.

        Args:
            stack: where they belong.
            sources: a folder with the code of another commit; None for the present one.
        """
        self._stack = stack
        self._environment: dict[str, str] = {}
        if sources is not None:
            self._environment |= build_environment(sources)
            self._check(sources)

    def api(self) -> Api:
        """Start an API."""
        return self._stack.api(self._environment, command=(sys.executable, "-m", "hitcounter_api"))

    def indexer(self) -> Service:
        """Start an indexer."""
        return self._stack.indexer(self._environment, command=(sys.executable, "-m", "hitcounter_indexer"))

    def _check(self, sources: Path) -> None:
        """Make sure that it is the code of the other commit that runs."""
        asked = [
            sys.executable,
            "-c",
            "import hitcounter, hitcounter_api as a, hitcounter_indexer as i; print(hitcounter, a, i)",
        ]
        answer = subprocess.run(asked, env=self._environment, capture_output=True, text=True, check=True)
        assert answer.stdout.count(str(sources)) == len(_SOURCES), answer.stdout


def build_environment(sources: Path) -> dict[str, str]:
    """Return what makes our commands run the code in that folder."""
    return {"PYTHONPATH": os.pathsep.join(str(sources / source) for source in _SOURCES)}


def check_out(commit: str, folder: Path) -> Path:
    """Write the code of the commit into the folder."""
    archive = subprocess.run(["git", "archive", commit, *_SOURCES], capture_output=True, check=True)
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
    return folder


def upgrade_and_withdraw(older: Version, newer: Version) -> int:
    """Mix the versions in every way; return how many hits were acknowledged.

    Raises:
        AssertionError: a hit is lost or counted twice, the ledger does not balance, or a part did not end well.
    """
    older_api, older_indexer = older.api(), older.indexer()
    with RecordingClient([older_api.url]) as client:
        client.wait_for(_HITS)
        newer_indexer = newer.indexer()
        client.wait_for(_HITS)
        older_indexer.kill()  # the newer one takes over what it has left
        client.wait_for(_HITS)
        newer_api = newer.api()
        client.add_url(newer_api.url)
        client.wait_for(_HITS)
        older_indexer = older.indexer()
        client.wait_for(_HITS)
        newer_indexer.kill()  # and the other way round: the upgrade is withdrawn
        client.wait_for(_HITS)
        newer_indexer = newer.indexer()
        client.wait_for(_HITS)
        assert older_indexer.terminate() == 0
        client.wait_for(_HITS)
    assert_counted_exactly(newer_api, client)
    for id_ in client.acknowledged:
        assert older_api.counts(id_)[LONGEST] == newer_api.counts(id_)[LONGEST], id_
    for part in (older_api.service, newer_api.service, newer_indexer):
        assert part.terminate() == 0
    return client.acknowledged.total()


def main() -> int:
    """Do it once."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.versions", description=__doc__)
    parser.add_argument("commit", help="the other version")
    commit = parser.parse_args().commit
    with tempfile.TemporaryDirectory(prefix="hitcounter-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)  # Elasticsearch may run as another user
        sources = check_out(commit, folder / "other")
        with (
            RedisServer(folder / "redis") as redis,
            ElasticsearchServer(folder / "elasticsearch") as elasticsearch,
            Stack(redis.url, elasticsearch.url, folder) as stack,
        ):
            hits = upgrade_and_withdraw(Version(stack, sources), Version(stack, None))
    sys.stdout.write(f"{commit} and the present version side by side: {hits:,} hits, each counted once\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
