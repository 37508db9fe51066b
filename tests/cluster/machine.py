"""What a cluster could leave behind on this machine."""

from __future__ import annotations

import subprocess
from pathlib import Path

from hitcounter_cluster.inside import KERNEL_SETTINGS
from hitcounter_cluster.layout import CONTROL_GROUP
from hitcounter_cluster.runtime import require_runtime

_PROGRAMS = ("coredns", "etcd", "keda", "kube", "pause")
_SETTINGS = (*KERNEL_SETTINGS, "net/ipv4/ip_forward", "net/ipv4/conf/all/route_localnet")


def traces() -> dict[str, object]:
    """Return what is the same before a cluster was there, and after."""
    links = subprocess.run(["ip", "-o", "-br", "address"], capture_output=True, text=True, check=True).stdout
    routes = subprocess.run(["ip", "route"], capture_output=True, text=True, check=True).stdout
    return {
        "mounts": Path("/proc/self/mounts").read_text().splitlines(),
        "links": links.splitlines(),
        "routes": routes.splitlines(),
        "kernel settings": {name: Path("/proc/sys", name).read_text() for name in _SETTINGS},
        "control groups": sorted(str(path) for path in Path("/sys/fs/cgroup").glob(f"**/{CONTROL_GROUP}")),
        "processes": sorted(name for name in _processes() if name.startswith(_PROGRAMS)),
        "firewall": _rules(),
    }


def _rules() -> list[str]:
    runtime = require_runtime()
    command = [str(runtime.program("iptables-save"))]
    answer = subprocess.run(command, env=runtime.environment(), capture_output=True, text=True, check=True)
    return [line for line in answer.stdout.splitlines() if not line.startswith("#")]


def _processes() -> list[str]:
    answer = subprocess.run(["ps", "-A", "-o", "comm="], capture_output=True, text=True, check=True)
    return answer.stdout.split()
