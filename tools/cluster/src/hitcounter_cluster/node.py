"""One Kubernetes node on this machine, in its own namespaces: starts it, and removes it completely.

It outlives the command that starts it. Its folder has the pid of its first process; when that ends, everything ends
(`inside.py`). Outside of the folder there is a virtual network link, which disappears with it, and its control groups,
which `down` removes.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from hitcounter_devstack.environment import cache_folder, inherited_environment
from hitcounter_devstack.errors import DevstackError, MissingPartError, StartError
from hitcounter_devstack.packages import can_install, install_packages
from hitcounter_devstack.progress import say, ticking

from hitcounter_cluster.clients import api_answers, run_kubectl
from hitcounter_cluster.control_plane import ControlPlane
from hitcounter_cluster.layout import CONTAINERD_SOCKET, CONTROL_GROUP, Layout
from hitcounter_cluster.network import HOST_ADDRESS, NODE_NAME, NODE_WIRE_NAME, WIRE_NAME, WIRE_PREFIX_LENGTH
from hitcounter_cluster.programs import NODE_PROGRAMS, require_program
from hitcounter_cluster.runtime import require_runtime

READY_SECONDS = 120.0
GONE_SECONDS = 30.0
IMAGES_CLIENT = ("ctr", f"--address={CONTAINERD_SOCKET}", "--namespace=k8s.io", "images")
NAMESPACES = ("--mount", "--net", "--pid", "--ipc", "--uts", "--mount-proc")


class Node:
    """The one node of this machine."""

    def __init__(self) -> None:
        self._layout = Layout(cache_folder() / "cluster" / "node")

    @property
    def plane(self) -> ControlPlane:
        """Its control plane."""
        return self._layout.plane

    @property
    def commands_folder(self) -> Path:
        """For PATH: the kubectl of its version."""
        return self._layout.commands_folder

    @property
    def pid(self) -> int | None:
        """Its first process, as this machine numbers it; None while it is down."""
        with contextlib.suppress(FileNotFoundError):
            pid, begun = self._layout.pid_file.read_text().split()
            if _begun(int(pid)) == begun:
                return int(pid)
        return None

    def up(self) -> None:
        """Bring it up, unless it is; returns when it takes pods.

        Raises:
            MissingPartError: something has to be installed first, or we are not root.
            StartError: one of its programs ended, or was not ready in time; with its last lines.
        """
        if self.pid is not None:
            say("the node is up")
            return
        _require_root()
        runtime = require_runtime()
        for program in NODE_PROGRAMS:
            require_program(program)
        self.down()
        self._layout.prepare(runtime)
        _make_control_groups()
        with ticking("starting the node"):
            self._start()
            self._wait_until("its API server answers", lambda: api_answers(self.plane))
            self._wait_until("it is registered", lambda: self.kubectl("get", "nodes", "--output=name") != "")
            self.kubectl("wait", "--for=condition=Ready", f"node/{NODE_NAME}", f"--timeout={READY_SECONDS:.0f}s")

    def down(self) -> None:
        """Take it away with all that is on it; a no-op if there is none."""
        pid = self.pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self._wait_until_gone(pid)
        _remove_control_groups()
        shutil.rmtree(self._layout.folder, ignore_errors=True)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl against it and return what it printed.

        Raises:
            DevstackError: kubectl failed; with what it said.
        """
        return run_kubectl(self.plane.kubeconfig, *arguments, stdin=stdin)

    def import_image(self, archive: Path) -> None:
        """Give the node the images of an archive, as Docker saves them, unless it has had them.

        Raises:
            DevstackError: containerd refused it, or the node is down.
        """
        stamp = self._layout.imported / f"{archive.name}.{archive.stat().st_mtime_ns}"
        if not stamp.exists():
            say(f"importing {archive.name}")
            self._inside(*IMAGES_CLIENT, "import", str(archive))
            stamp.touch()

    def tag_image(self, image: str, name: str) -> None:
        """Give an image another name, with registry and tag."""
        self._inside(*IMAGES_CLIENT, "tag", "--force", image, name)

    def fresh_volume(self, name: str) -> Path:
        """Return an empty folder for a volume."""
        folder = self._layout.volumes / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def _inside(self, program: str, *arguments: str) -> None:
        runtime, pid = require_runtime(), self.pid
        if pid is None:
            raise DevstackError("the node is down. To bring it up: make cluster-up")
        enter = ["nsenter", f"--target={pid}", "--mount", "--net", "--pid"]
        command = [*enter, str(runtime.program(program)), *arguments]
        answer = subprocess.run(command, env=runtime.environment(), capture_output=True, text=True, check=False)
        if answer.returncode != 0:
            raise DevstackError(f"{program} {' '.join(arguments)} failed: {answer.stderr.strip()}")

    def _start(self) -> None:
        ready, waiting = os.pipe()
        program = [sys.executable, "-m", "hitcounter_cluster.inside", str(self._layout.folder)]
        # It waits for a line: until then its wire is laid. Not by sh, which may know no descriptor above 9.
        begin = ["bash", "-c", f'read -r _ <&{ready} && exec "$@" {ready}<&-', "bash", *program]
        unshare = ["unshare", *NAMESPACES, "--fork", "--kill-child", *begin]
        with (self._layout.logs / "node.log").open("ab") as log:
            # By a shell that ends at once: the node is nobody's child.
            started = subprocess.run(
                ["sh", "-c", '"$@" >&2 & echo $!', "sh", *unshare],
                stdout=subprocess.PIPE,
                stderr=log,
                env=inherited_environment(),
                start_new_session=True,
                pass_fds=[ready],
                check=True,
            )
        os.close(ready)
        pid = _only_child(int(started.stdout))
        self._layout.pid_file.write_text(f"{pid} {_begun(pid)}\n")
        _lay_wire(pid)
        os.write(waiting, b"\n")
        os.close(waiting)

    def _wait_until(self, what: str, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not condition():
            if self.pid is None:
                raise StartError(f"the node ended before {what}: {self._tails()}")
            if time.monotonic() > deadline:
                raise StartError(f"{READY_SECONDS:.0f} s passed before {what}: {self._tails()}")
            time.sleep(0.2)

    def _tails(self) -> str:
        files = sorted(self._layout.logs.glob("*.log"), key=lambda file: file.stat().st_mtime)
        return "\n".join(f"{file.stem}: {' '.join(file.read_text().splitlines()[-2:])}" for file in files)

    def _wait_until_gone(self, pid: int) -> None:
        deadline = time.monotonic() + GONE_SECONDS
        while Path(f"/proc/{pid}").exists():
            if time.monotonic() > deadline:
                raise DevstackError(f"the node (pid {pid}) is still there after {GONE_SECONDS:.0f} s")
            time.sleep(0.1)


def _require_root() -> None:
    if os.geteuid() != 0:
        raise MissingPartError("A node needs root", "run this as root, or install kind and Docker")
    if shutil.which("ip") is None and can_install():
        install_packages(["iproute2"])
    for program, package in {"ip": "iproute2", "unshare": "util-linux", "nsenter": "util-linux"}.items():
        if shutil.which(program) is None:
            raise MissingPartError(f"There is no {program} in PATH", f"apt-get install {package}")


def _begun(pid: int) -> str | None:
    """Return when a process began, in the kernel's own measure: a pid alone may be somebody else's by now."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return None


def _only_child(pid: int) -> int:
    deadline = time.monotonic() + READY_SECONDS
    children = Path(f"/proc/{pid}/task/{pid}/children")
    with contextlib.suppress(FileNotFoundError):  # it ended
        while time.monotonic() < deadline:
            if found := children.read_text().split():
                return int(found[0])
            time.sleep(0.02)
    raise StartError("unshare did not start the node")


def _lay_wire(pid: int) -> None:
    far_end = ("peer", "name", NODE_WIRE_NAME, "netns", str(pid))
    for command in (
        ("link", "add", WIRE_NAME, "type", "veth", *far_end),
        ("address", "add", f"{HOST_ADDRESS}/{WIRE_PREFIX_LENGTH}", "dev", WIRE_NAME),
        ("link", "set", WIRE_NAME, "up"),
    ):
        subprocess.run(["ip", *command], check=True)


def _control_groups() -> list[Path]:
    """Return the node's place in each hierarchy: one in version 2, one for each controller in version 1."""
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        return [root / CONTROL_GROUP]
    return [hierarchy / CONTROL_GROUP for hierarchy in root.iterdir() if (hierarchy / "cgroup.procs").exists()]


def _make_control_groups() -> None:
    for group in _control_groups():
        group.mkdir(exist_ok=True)


def _remove_control_groups() -> None:
    """Remove the groups from the leaves up; their files go with them."""
    for group in _control_groups():
        for folder, _, _ in os.walk(group, topdown=False):
            _remove_group(Path(folder))


def _remove_group(group: Path) -> None:
    # The kernel needs a moment to see that the last process is gone.
    deadline = time.monotonic() + GONE_SECONDS
    while True:
        try:
            group.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
