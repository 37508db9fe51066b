"""The first process of the node: starts and supervises the others, in its own network and mount namespaces.

`node.py` runs it as `python -m hitcounter_cluster.inside FOLDER`. Nothing in here is visible on the machine. When this
process ends, the kernel removes everything: programs, containers, mounts, addresses and firewall rules.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from hitcounter_cluster.clients import api_answers
from hitcounter_cluster.layout import CONTAINERD_SOCKET, Layout
from hitcounter_cluster.network import NODE_ADDRESS, NODE_WIRE_NAME, WIRE_PREFIX_LENGTH
from hitcounter_cluster.runtime import require_runtime

READY_SECONDS = 120.0
# The kubelet wants these and would set them, for the whole machine: it is shown files that have them.
KERNEL_SETTINGS: Mapping[str, str] = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}


def main() -> None:
    """Start all programs in turn, and stay until one of them ends or this process is told to."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    layout, runtime = Layout(Path(sys.argv[1])), require_runtime()
    _arrange_mounts(layout.folder)
    _connect()
    environment = runtime.environment()
    readiness = {
        "containerd": CONTAINERD_SOCKET.exists,
        "kube-apiserver": lambda: api_answers(layout.plane),
    }
    children: dict[int, str] = {}
    for name, command in layout.commands(runtime).items():
        with (layout.logs / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        children[child.pid] = name
        _wait_for(name, readiness.get(name, lambda: True), child)
    _look_after(children)


def _arrange_mounts(folder: Path) -> None:
    _run("mount", "--make-rshared", "/")
    for place in ("/run", "/var/log"):
        _run("mount", "-t", "tmpfs", "tmpfs", place)
    settings = folder / "kernel-settings"
    for name, value in KERNEL_SETTINGS.items():
        file = settings / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{value}\n")
        _run("mount", "--bind", str(file), f"/proc/sys/{name}")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")  # of this network alone


def _connect() -> None:
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "address", "add", f"{NODE_ADDRESS}/{WIRE_PREFIX_LENGTH}", "dev", NODE_WIRE_NAME)
    _run("ip", "link", "set", NODE_WIRE_NAME, "up")


def _wait_for(name: str, is_ready: Callable[[], bool], child: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not is_ready():
        if child.poll() is not None:
            sys.exit(f"{name} ended with status {child.returncode}")
        if time.monotonic() > deadline:
            sys.exit(f"{name} was not ready after {READY_SECONDS:.0f} s")
        time.sleep(0.1)


def _look_after(children: Mapping[int, str]) -> None:
    # The first process inherits the orphans, too: those of containers, mostly.
    while True:
        pid, status = os.wait()
        if pid in children:
            sys.exit(f"{children[pid]} ended with status {os.waitstatus_to_exitcode(status)}")


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
