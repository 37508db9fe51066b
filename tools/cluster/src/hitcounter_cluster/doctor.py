"""Lists what the cluster needs, what this machine has, and how to get the rest. It installs nothing."""

import os
import shutil

from hitcounter_devstack.doctor import Finding

from hitcounter_cluster.programs import ADDON_PROGRAMS, GO_HINT, NODE_PROGRAMS, Program, missing
from hitcounter_cluster.runtime import INSTALL_RUNTIME, find_runtime

UP = "make cluster-up builds them, a minute or more each"


def examine() -> list[Finding]:
    """Look for everything that `up` uses."""
    runtime = find_runtime()
    return [
        Finding("Root, for a Kubernetes node", "yes" if os.geteuid() == 0 else None, "run make cluster-up as root"),
        Finding("Go", shutil.which("go"), GO_HINT),
        Finding("C compiler", shutil.which("cc"), "apt-get install gcc libc6-dev"),
        Finding("iproute2", shutil.which("ip"), "apt-get install iproute2"),
        Finding("containerd", None if runtime is None else str(runtime.home), f"make cluster-up; {INSTALL_RUNTIME}"),
        Finding("Kubernetes, etcd, CoreDNS", *_built(*NODE_PROGRAMS)),
        Finding("KEDA, metrics-server", *_built(*ADDON_PROGRAMS)),
    ]


def _built(*programs: Program) -> tuple[str | None, str]:
    lacking = [program.name for program in missing(programs)]
    return ("built" if not lacking else None), f"{UP}: {', '.join(lacking)}"
