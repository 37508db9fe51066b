"""An image put together without Docker is one that Docker could have saved, and holds what it runs."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

import pytest
from hitcounter_cluster.archive import Image
from hitcounter_devstack.errors import MissingPartError


def test_archive_names_the_image_and_the_digest_of_its_layer(tmp_path: Path) -> None:
    image = Image("registry.example.org/a/b:1", ["/start"], texts={"start": "#!/bin/sh\n"}, user="5:5")
    image.write(tmp_path / "b.tar")
    with tarfile.open(tmp_path / "b.tar") as archive:
        (manifest,) = json.loads(content_of(archive, "manifest.json"))
        config = json.loads(content_of(archive, manifest["Config"]))
        (layer,) = manifest["Layers"]
        digest = hashlib.sha256(content_of(archive, layer)).hexdigest()
    assert manifest["RepoTags"] == [image.name]
    assert config["rootfs"]["diff_ids"] == [f"sha256:{digest}"]
    assert (config["config"]["Entrypoint"], config["config"]["User"]) == (["/start"], "5:5")
    assert [path.name for path in tmp_path.iterdir()] == ["b.tar"]


def test_programs_come_with_their_libraries_and_files_without_what_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    for name in ("kept", "src.zip"):
        (tmp_path / "given" / name).touch(mode=0o600)
    image = Image(
        "a:1", ["cat"], {"opt": tmp_path / "given"}, programs=["cat"], folders=["data"], leave_out=["src.zip"]
    )
    image.write(tmp_path / "a.tar")
    with tarfile.open(tmp_path / "a.tar") as archive, tarfile.open(fileobj=archive.extractfile("layer.tar")) as layer:
        members = {member.name: member for member in layer}
    assert members["usr/bin/cat"].mode & 0o111 == 0o111
    assert any(name.startswith("usr/local/lib/libc.") for name in members)
    assert any("/ld-" in name for name in members)
    assert members["opt/kept"].mode & 0o444 == 0o444
    assert "opt/src.zip" not in members
    assert members["data"].mode == 0o1777


def test_program_that_is_not_here_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingPartError, match="no-such-program"):
        Image("a:1", ["x"], programs=["no-such-program"]).write(tmp_path / "a.tar")


def content_of(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None
    return file.read()
