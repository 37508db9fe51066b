"""Where kind and Docker are, they make the cluster.

Neither is available where the tests run: programs that record their arguments replace them.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hitcounter_cluster import kind
from hitcounter_cluster.__main__ import main
from hitcounter_devstack.errors import MissingPartError

ROOT = Path(__file__).parents[3]


class Programs:
    """Substitutes in PATH, which note the commands they get."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log = folder / "log"
        self._log.touch()

    def add(self, name: str, then: str = "true") -> None:
        program = self._folder / name
        program.write_text(f'#!/bin/sh\necho "{name} $*" >> {self._log}\n{then}\n')
        program.chmod(0o755)

    @property
    def commands(self) -> list[str]:
        return self._log.read_text().splitlines()


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Docker that answers, kind that has no cluster, and a checkout whose images are built at once."""
    (tmp_path / "bin").mkdir()
    substitutes = Programs(tmp_path / "bin")
    substitutes.add("docker")
    substitutes.add("kind")
    (tmp_path / "tools").mkdir()
    images = tmp_path / "tools/images.sh"
    images.write_text("#!/bin/sh\n")
    images.chmod(0o755)
    monkeypatch.setattr("hitcounter_cluster.kind.checkout", lambda: tmp_path)
    monkeypatch.setattr("hitcounter_cluster.node.Node.pid", None)  # whatever is up on this machine
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.defpath}")
    return substitutes


def test_cluster_is_made_and_gets_our_images_and_its_addons(programs: Programs) -> None:
    programs.add("helm")
    main(["up", "keda"])
    assert "kind create cluster --config kind-config.yaml" in programs.commands
    (load,) = [command for command in programs.commands if command.startswith("kind load")]
    assert re.findall(r"(\S+):\d", load) == ["hitcounter-api", "hitcounter-indexer", "hitcounter-operator"]
    assert programs.commands[-1] == f"{kind.ADDON_COMMANDS['keda']} --kube-context kind-hitcounter"


def test_cluster_that_is_there_is_not_made_again(programs: Programs) -> None:
    programs.add("kind", then='[ "$1" != get ] || echo hitcounter')
    kind.up([])
    assert not [command for command in programs.commands if command.startswith("kind create")]
    kind.down()
    assert programs.commands[-1] == "kind delete cluster --name hitcounter"


def test_addons_without_helm_are_refused_with_the_way_out(programs: Programs) -> None:
    with pytest.raises(MissingPartError, match=r"helm\.sh"):
        kind.up(["keda"])
    assert not programs.commands


def test_addons_are_installed_as_the_document_does_it() -> None:
    text = " ".join((ROOT / "docs/quickstart.md").read_text().replace("\\\n", " ").split())
    assert [command for command in kind.ADDON_COMMANDS.values() if command not in text] == []
