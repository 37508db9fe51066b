"""Kubernetes, CoreDNS, KEDA and metrics-server: built by Go from their modules, once, into the cache.

Each folder of `go/` has a `go.mod` with the release and a `go.sum` with all checksums. The path of a program in the
cache contains its version, so a changed `go.mod` leads to a new build.
"""

import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hitcounter_devstack.environment import cache_folder, inherited_environment
from hitcounter_devstack.errors import DevstackError, MissingPartError
from hitcounter_devstack.locks import exclusive
from hitcounter_devstack.progress import ticking

MODULES = Path(__file__).with_name("go")
BUILD_SECONDS = 3600
GO_HINT = "install Go 1.26 or newer: https://go.dev/doc/install"

KUBERNETES = "k8s.io/kubernetes"
KEDA = "github.com/kedacore/keda/v2"


@dataclass(frozen=True)
class Program:
    """One program and where its source is.

    Attributes:
        name: of the file, as its makers call it.
        folder: in `go/`: what is built together is pinned together.
        module: the module whose version is the program's.
        package: of the main function.
        version_variable: a variable of its source that its makers set to the version; empty where none is.
    """

    name: str
    folder: str
    module: str
    package: str
    version_variable: str = ""

    @property
    def version(self) -> str:
        """The version that `go.mod` asks for, such as `v1.34.2`."""
        found = re.search(rf"{re.escape(self.module)} (v[^\s]+)", (MODULES / self.folder / "go.mod").read_text())
        if found is None:
            raise DevstackError(f"{self.folder}/go.mod does not require {self.module}")
        return found[1]

    @property
    def place(self) -> Path:
        """Where it is in the cache, or will be."""
        return cache_folder() / "cluster" / "programs" / f"{self.name}-{self.version}"


def _of_kubernetes(name: str) -> Program:
    variable = "k8s.io/component-base/version.gitVersion"
    return Program(name, "kubernetes", KUBERNETES, f"{KUBERNETES}/cmd/{name}", variable)


ETCD = Program("etcd", "kubernetes", "go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/server/v3")
KUBE_APISERVER = _of_kubernetes("kube-apiserver")
KUBECTL = _of_kubernetes("kubectl")
KUBE_CONTROLLER_MANAGER = _of_kubernetes("kube-controller-manager")
KUBE_SCHEDULER = _of_kubernetes("kube-scheduler")
KUBELET = _of_kubernetes("kubelet")
KUBE_PROXY = _of_kubernetes("kube-proxy")
COREDNS = Program("coredns", "coredns", "github.com/coredns/coredns", "github.com/coredns/coredns")
KEDA_OPERATOR = Program("keda", "keda", KEDA, f"{KEDA}/cmd/operator", f"{KEDA}/version.Version")
KEDA_ADAPTER = Program("keda-adapter", "keda", KEDA, f"{KEDA}/cmd/adapter", f"{KEDA}/version.Version")
METRICS_SERVER = Program(
    "metrics-server", "metrics-server", "sigs.k8s.io/metrics-server", "sigs.k8s.io/metrics-server/cmd/metrics-server"
)

API_PROGRAMS = (ETCD, KUBE_APISERVER, KUBECTL)
"""What an API server alone needs: custom resources, watches and server-side validation, but no pods."""
NODE_PROGRAMS = (*API_PROGRAMS, KUBE_CONTROLLER_MANAGER, KUBE_SCHEDULER, KUBELET, KUBE_PROXY, COREDNS)
ADDON_PROGRAMS = (KEDA_OPERATOR, KEDA_ADAPTER, METRICS_SERVER)


def missing(programs: Iterable[Program]) -> list[Program]:
    """Return those that were not built yet."""
    return [program for program in programs if not program.place.exists()]


def require_program(program: Program) -> Path:
    """Return the program, built if it is not in the cache yet: minutes, with the progress shown.

    Two processes may ask at once: one builds, the other waits.

    Raises:
        MissingPartError: there is no Go.
        DevstackError: the build failed; with the end of what Go said.
    """
    if not program.place.exists():
        with exclusive(f"{program.folder}-build"):
            if not program.place.exists():
                _build(program)
    return program.place


def module_source(program: Program) -> Path:
    """Return the folder with the module's source, whose manifests come with it."""
    answer = _go(program, "list", "-m", "-f", "{{.Dir}}", program.module)
    return Path(answer.strip())


def _build(program: Program) -> None:
    program.place.parent.mkdir(parents=True, exist_ok=True)
    half_made = program.place.with_name(f".{program.place.name}")
    flags = f"-s -w -X {program.version_variable}={program.version}" if program.version_variable else "-s -w"
    with ticking(f"building {program.name} {program.version}"):
        _go(program, "build", "-trimpath", "-ldflags", flags, "-o", str(half_made), program.package)
    half_made.rename(program.place)


def _go(program: Program, *arguments: str) -> str:
    if shutil.which("go") is None:
        raise MissingPartError(f"{program.name} is built by Go, and there is no go in PATH", GO_HINT)
    answer = subprocess.run(
        ["go", *arguments],
        cwd=MODULES / program.folder,
        # Without C they run on any base, and in images without one.
        env={**inherited_environment(), "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false"},
        capture_output=True,
        text=True,
        check=False,
        timeout=BUILD_SECONDS,
    )
    if answer.returncode != 0:
        raise DevstackError(f"go {arguments[0]} of {program.name} failed:\n{answer.stderr[-2000:]}")
    return answer.stdout
