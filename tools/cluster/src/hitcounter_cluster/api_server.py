"""A Kubernetes API server with its etcd: custom resources, watches, roles and validation, but no node.

It needs no root and no packages, starts within seconds once it is built, and ends with the process that started it. It
cannot run anything: a Deployment gets no pods.

    with ApiServer(folder) as api:
        api.kubectl("apply", "-f", "crds/")
"""

from pathlib import Path

from hitcounter_devstack.ports import LOCALHOST, free_port, http_status
from hitcounter_devstack.server import Command, Server

from hitcounter_cluster.clients import api_answers, run_kubectl
from hitcounter_cluster.control_plane import ControlPlane
from hitcounter_cluster.programs import ETCD, KUBE_APISERVER, require_program


class Etcd(Server):
    """The store of one control plane."""

    name = "etcd"
    stop_seconds = 10.0

    def __init__(self, plane: ControlPlane) -> None:
        super().__init__(plane.folder, port=plane.etcd_port)
        self._plane = plane

    @property
    def url(self) -> str:
        """Where the API server finds it."""
        return self._plane.etcd_url

    @property
    def version(self) -> str:
        """The version of the program."""
        return ETCD.version

    @property
    def log_file(self) -> Path:
        """Everything it printed."""
        return self.data_dir / "etcd.log"

    def is_ready(self) -> bool:
        """Say whether it serves."""
        return http_status(f"{self.url}/health") == 200

    def _prepare(self) -> Command:
        return Command([str(require_program(ETCD)), *self._plane.etcd_arguments()])


class ApiServer(Server):
    """kube-apiserver with an etcd of its own, on this machine's loopback.

    A context manager: ready inside the block, gone after it. Both programs are built the first time, which takes
    minutes; their data stay in the folder.

    Args:
        folder: for certificates, data and logs.
    """

    name = "kube-apiserver"
    ready_seconds = 120.0
    stop_seconds = 10.0

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "kube-apiserver")
        self.plane = ControlPlane(folder / "etcd", LOCALHOST, self.port, free_port())
        self._etcd = Etcd(self.plane)

    @property
    def url(self) -> str:
        """Where clients find it."""
        return self.plane.url

    @property
    def version(self) -> str:
        """The version of Kubernetes, such as `v1.34.2`."""
        return KUBE_APISERVER.version

    @property
    def kubeconfig(self) -> Path:
        """The configuration for clients that may do everything."""
        return self.plane.kubeconfig

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl against it and return what it printed.

        Raises:
            DevstackError: kubectl failed; with what it said.
        """
        return run_kubectl(self.kubeconfig, *arguments, stdin=stdin)

    def is_ready(self) -> bool:
        """Say whether it serves."""
        return api_answers(self.plane)

    def stop(self) -> None:
        """End it, then its etcd."""
        super().stop()
        self._etcd.stop()

    def kill(self) -> None:
        """End both by force."""
        super().kill()
        self._etcd.kill()

    def _prepare(self) -> Command:
        program = require_program(KUBE_APISERVER)
        require_program(ETCD)
        self.plane.prepare()
        self._etcd.start().wait_ready()
        # Nobody routes to a loopback address: there is no Service for the API itself.
        return Command([str(program), *self.plane.api_server_arguments(), "--endpoint-reconciler-type=none"])
