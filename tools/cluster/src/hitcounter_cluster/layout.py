"""Where the files of the node are, and how its programs are configured. It starts no process.

All files are in one folder, which is deleted with the node. Files that programs expect in system folders are put there
in a mount namespace that only the node has (`inside.py`).
"""

import json
from dataclasses import dataclass
from pathlib import Path

import yaml

from hitcounter_cluster.control_plane import ControlPlane
from hitcounter_cluster.network import (
    API_PORT,
    CLUSTER_DOMAIN,
    DNS_ADDRESS,
    NODE_ADDRESS,
    NODE_NAME,
    POD_RANGE,
)
from hitcounter_cluster.programs import (
    ETCD,
    KUBE_APISERVER,
    KUBE_CONTROLLER_MANAGER,
    KUBE_PROXY,
    KUBE_SCHEDULER,
    KUBECTL,
    KUBELET,
    require_program,
)
from hitcounter_cluster.runtime import Runtime

ETCD_PORT = 2379
CONTROL_GROUP = "hitcounter-cluster"
CONTAINERD_SOCKET = Path("/run/containerd/containerd.sock")
PAUSE_IMAGE = "docker.io/library/hitcounter-pause:1"

CONTAINERD = """\
version = 2
root = "{folder}/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
# Without the right to lower it, which a container has not, every pod would die.
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{folder}/network"
"""


@dataclass(frozen=True)
class Layout:
    """The files of one node.

    Attributes:
        folder: holds all of them.
    """

    folder: Path

    @property
    def plane(self) -> ControlPlane:
        """Its control plane."""
        return ControlPlane(self.folder / "control-plane", NODE_ADDRESS, API_PORT, ETCD_PORT)

    @property
    def pid_file(self) -> Path:
        """Which process it is, for as long as it lives."""
        return self.folder / "pid"

    @property
    def logs(self) -> Path:
        """A file for each program, named like it."""
        return self.folder / "logs"

    @property
    def volumes(self) -> Path:
        """A folder for each volume that claims can be bound to."""
        return self.folder / "volumes"

    @property
    def commands_folder(self) -> Path:
        """For PATH: the kubectl of this version."""
        return self.folder / "bin"

    @property
    def imported(self) -> Path:
        """A file for each archive of images that the node was given."""
        return self.folder / "imported"

    @property
    def _kubelet(self) -> Path:
        return self.folder / "kubelet"

    def prepare(self, runtime: Runtime) -> None:
        """Write the configuration of all programs."""
        self.plane.prepare()
        for folder in (self.logs, self._kubelet, self.folder / "network", self.commands_folder, self.imported):
            folder.mkdir(parents=True, exist_ok=True)
        (self.commands_folder / "kubectl").symlink_to(require_program(KUBECTL))
        values = {
            "folder": self.folder,
            "socket": CONTAINERD_SOCKET,
            "pause": PAUSE_IMAGE,
            "plugins": runtime.network_plugins,
        }
        (self.folder / "containerd.toml").write_text(CONTAINERD.format(**values))
        (self.folder / "network" / "10-hitcounter.conflist").write_text(json.dumps(self._network()))
        (self.folder / "resolv.conf").touch()
        (self.folder / "kubelet.yaml").write_text(yaml.safe_dump(self._kubelet_configuration()))

    def commands(self, runtime: Runtime) -> dict[str, list[str]]:
        """Return the programs with their arguments, in the order in which they are started."""
        plane = self.plane
        kubeconfig = f"--kubeconfig={plane.kubeconfig}"
        return {
            "containerd": [str(runtime.program("containerd")), f"--config={self.folder / 'containerd.toml'}"],
            "etcd": [str(require_program(ETCD)), *plane.etcd_arguments()],
            "kube-apiserver": [str(require_program(KUBE_APISERVER)), *plane.api_server_arguments()],
            "kube-controller-manager": [
                str(require_program(KUBE_CONTROLLER_MANAGER)),
                *plane.controller_manager_arguments(),
            ],
            "kube-scheduler": [str(require_program(KUBE_SCHEDULER)), *plane.scheduler_arguments()],
            "kubelet": [
                str(require_program(KUBELET)),
                kubeconfig,
                f"--config={self.folder / 'kubelet.yaml'}",
                f"--root-dir={self._kubelet}",
                f"--node-ip={NODE_ADDRESS}",
                f"--hostname-override={NODE_NAME}",
            ],
            "kube-proxy": [
                str(require_program(KUBE_PROXY)),
                kubeconfig,
                "--proxy-mode=iptables",
                f"--cluster-cidr={POD_RANGE}",
                f"--hostname-override={NODE_NAME}",
                # This is the machine's, and stays as it is.
                "--conntrack-max-per-core=0",
            ],
        }

    def _network(self) -> dict[str, object]:
        # One wire for each pod, and no bridge: what pods say to each other is routed, and seen by kube-proxy's rules.
        wire = {
            "type": "ptp",
            "ipMasq": True,
            "ipam": {
                "type": "host-local",
                "dataDir": str(self.folder / "addresses"),
                "ranges": [[{"subnet": POD_RANGE}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
        ports = {"type": "portmap", "capabilities": {"portMappings": True}}
        return {"cniVersion": "0.4.0", "name": "hitcounter", "plugins": [wire, ports]}

    def _kubelet_configuration(self) -> dict[str, object]:
        authority = self.plane.authority
        server = authority.issue("kubelet", addresses=[NODE_ADDRESS])
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": NODE_ADDRESS,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(authority.own.certificate)},
            },
            "authorization": {"mode": "AlwaysAllow"},
            "tlsCertFile": str(server.certificate),
            "tlsPrivateKeyFile": str(server.key),
            "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{CONTROL_GROUP}",
            "failCgroupV1": False,
            "failSwapOn": False,
            "enforceNodeAllocatable": [],
            "clusterDNS": [DNS_ADDRESS],
            "clusterDomain": CLUSTER_DOMAIN,
            # The pods of this node know nobody outside.
            "resolvConf": str(self.folder / "resolv.conf"),
            "podLogsDir": str(self.folder / "pod-logs"),
            "volumePluginDir": str(self.folder / "volume-plugins"),
            # A developer's disk is often nearly full, and an image that is thrown away cannot be pulled again.
            "evictionHard": {"memory.available": "200Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
        }
