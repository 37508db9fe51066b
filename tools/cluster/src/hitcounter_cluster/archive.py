"""Builds images from files of this machine, without Docker: a layer and a description in an archive for containerd.

For substitutes only. Programs are packed with the libraries that they link, so an image contains only what it needs and
runs on the CPU architecture of this machine.
"""

import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hitcounter_devstack.errors import MissingPartError

EPOCH = "1970-01-01T00:00:00Z"
LIBRARY = re.compile(r"^\s*(?:(\S+) => )?(/\S+) \(0x", re.MULTILINE)
LIBRARIES = "usr/local/lib"
ACCOUNTS = "root:x:0:0:root:/root:/bin/sh\nredis:x:999:999::/data:/bin/sh\nelasticsearch:x:1000:1000::/tmp:/bin/sh\n"


@dataclass(frozen=True)
class Image:
    """What an image is made of.

    Attributes:
        name: by which pods ask for it, with registry and tag.
        command: its entry point.
        files: their place in the image, and where they or folders of them are taken from.
        texts: their place in the image, and what is in them; all may be executed.
        programs: to take with their libraries, found in PATH if they are mere names.
        linked: files that are in it by the above, and whose libraries it needs, too.
        folders: empty ones that its user may write to.
        leave_out: names of files and folders that are not taken along.
        environment: set in its containers.
        user: who its containers run as, unless told otherwise.
    """

    name: str
    command: Sequence[str]
    files: Mapping[str, Path] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    programs: Sequence[str] = ()
    linked: Sequence[Path] = ()
    folders: Sequence[str] = ()
    leave_out: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str = "0:0"

    def write(self, archive: Path) -> None:
        """Write the archive; only a whole one ever has its name."""
        archive.parent.mkdir(parents=True, exist_ok=True)
        layer, half_made = archive.with_suffix(".layer"), archive.with_suffix(".part")
        with tarfile.open(layer, "w") as tar:
            self._fill(tar)
        with layer.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        with tarfile.open(half_made, "w") as tar:
            _add_text(tar, "config.json", json.dumps(self._describe(digest)))
            tar.add(layer, "layer.tar")
            manifest = [{"Config": "config.json", "RepoTags": [self.name], "Layers": ["layer.tar"]}]
            _add_text(tar, "manifest.json", json.dumps(manifest))
        layer.unlink()
        half_made.rename(archive)

    def _describe(self, digest: str) -> dict[str, object]:
        variables = {"PATH": "/usr/bin", "LD_LIBRARY_PATH": f"/{LIBRARIES}", **self.environment}
        return {
            "created": EPOCH,
            "architecture": _architecture(),
            "os": "linux",
            "config": {
                "Entrypoint": list(self.command),
                "Env": [f"{name}={value}" for name, value in variables.items()],
                "User": self.user,
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
            "history": [{"created": EPOCH, "created_by": "hitcounter-cluster"}],
        }

    def _fill(self, tar: tarfile.TarFile) -> None:
        _add_link(tar, "bin", "usr/bin")
        _add_text(tar, "etc/passwd", ACCOUNTS)
        for place, text in self.texts.items():
            _add_text(tar, place, text)
        programs = {f"usr/bin/{Path(name).name}": _require(name) for name in self.programs}
        for place, source in {**self.files, **programs, **_libraries([*programs.values(), *self.linked])}.items():
            tar.add(source.resolve(), place, filter=self._take)
        for folder in ("tmp", *self.folders):
            _add_folder(tar, folder)

    def _take(self, member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if Path(member.name).name in self.leave_out:
            return None
        # Whoever runs it may read it, and what was executable is so for all.
        member.mode |= 0o444 | (0o111 if member.isdir() or member.mode & 0o100 else 0)
        return member


def _require(program: str) -> Path:
    path = shutil.which(program)
    if path is None:
        raise MissingPartError(f"There is no {program} in PATH for the substitute images", f"install {program}")
    return Path(path)


def _libraries(files: Iterable[Path]) -> dict[str, Path]:
    """Return where in the image the libraries go that these files are linked to, and where each is."""
    found = {}
    for file in files:
        answer = subprocess.run(["ldd", str(file)], capture_output=True, text=True, check=False)
        for name, path in LIBRARY.findall(answer.stdout):
            # Without a name it is the loader, whose place is written in each program.
            found[f"{LIBRARIES}/{name}" if name else path.lstrip("/")] = Path(path)
    return found


def _add_link(tar: tarfile.TarFile, name: str, target: str) -> None:
    link = tarfile.TarInfo(name)
    link.type, link.linkname = tarfile.SYMTYPE, target
    tar.addfile(link)


def _add_folder(tar: tarfile.TarFile, name: str) -> None:
    folder = tarfile.TarInfo(name)
    folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
    tar.addfile(folder)


def _add_text(tar: tarfile.TarFile, name: str, text: str) -> None:
    content = text.encode()
    file = tarfile.TarInfo(name)
    file.size, file.mode = len(content), 0o755
    tar.addfile(file, io.BytesIO(content))


def _architecture() -> str:
    answer = subprocess.run(["go", "env", "GOARCH"], capture_output=True, text=True, check=True)
    return answer.stdout.strip()
