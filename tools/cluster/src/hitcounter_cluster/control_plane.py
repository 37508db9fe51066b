"""The configuration of the control plane: its certificates, its token, and the arguments of its programs.

It is used for the API server alone (`api_server.py`, on loopback, as any user) and for the whole node (`node.py`). It
starts no process.
"""

import base64
import secrets
from dataclasses import dataclass
from pathlib import Path

import yaml

from hitcounter_cluster.certificates import Authority
from hitcounter_cluster.network import API_SERVICE_ADDRESS, POD_RANGE, SERVICE_RANGE

FRONT_PROXY = "front-proxy-client"
ISSUER = "https://kubernetes.default.svc"


@dataclass(frozen=True)
class ControlPlane:
    """What the programs of one control plane agree on.

    Attributes:
        folder: holds its certificates, its configuration and the data of etcd.
        address: where it listens.
        api_port: of the API server.
        etcd_port: of etcd; its peers' port is the next one.
    """

    folder: Path
    address: str
    api_port: int
    etcd_port: int

    @property
    def url(self) -> str:
        """Where clients find the API server."""
        return f"https://{self.address}:{self.api_port}"

    @property
    def etcd_url(self) -> str:
        """Where the API server finds etcd."""
        return f"http://127.0.0.1:{self.etcd_port}"

    @property
    def kubeconfig(self) -> Path:
        """The configuration of clients that may do everything; written by `prepare`."""
        return self.folder / "kubeconfig"

    @property
    def authority(self) -> Authority:
        """Who signs its certificates."""
        return Authority(self.folder / "certificates")

    @property
    def token(self) -> str:
        """What such clients say to be known; written by `prepare`."""
        return self._token_file.read_text().split(",")[0]

    @property
    def _token_file(self) -> Path:
        return self.folder / "tokens.csv"

    def prepare(self) -> None:
        """Write the token and the clients' configuration, unless they are there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self._token_file.exists():
            self._token_file.touch(mode=0o600)
            self._token_file.write_text(f"{secrets.token_urlsafe(32)},admin,admin,system:masters\n")
        certificate = self.authority.own.certificate.read_bytes()
        self.kubeconfig.touch(mode=0o600)
        self.kubeconfig.write_text(_build_kubeconfig(self.url, certificate, self.token))

    def etcd_arguments(self) -> list[str]:
        """Return the arguments of etcd. It does not sync: a cluster for tests is not meant to survive a power cut."""
        peers = f"http://127.0.0.1:{self.etcd_port + 1}"
        return [
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={self.etcd_url}",
            f"--advertise-client-urls={self.etcd_url}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]

    def api_server_arguments(self) -> list[str]:
        """Return the arguments of kube-apiserver, with what extension APIs such as KEDA's metrics need."""
        names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost")
        server = self.authority.issue("kube-apiserver", addresses=(self.address, API_SERVICE_ADDRESS), names=names)
        proxy = self.authority.issue(FRONT_PROXY)
        authority, accounts = self.authority.own.certificate, self.authority.signing_key("service-accounts")
        return [
            f"--etcd-servers={self.etcd_url}",
            f"--bind-address={self.address}",
            f"--advertise-address={self.address}",
            f"--secure-port={self.api_port}",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            f"--tls-cert-file={server.certificate}",
            f"--tls-private-key-file={server.key}",
            f"--client-ca-file={authority}",
            f"--token-auth-file={self._token_file}",
            "--authorization-mode=RBAC",
            "--allow-privileged",
            f"--service-account-issuer={ISSUER}",
            f"--service-account-key-file={accounts}",
            f"--service-account-signing-key-file={accounts}",
            f"--requestheader-client-ca-file={authority}",
            f"--requestheader-allowed-names={FRONT_PROXY}",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={proxy.certificate}",
            f"--proxy-client-key-file={proxy.key}",
            f"--kubelet-client-certificate={proxy.certificate}",
            f"--kubelet-client-key={proxy.key}",
            "--kubelet-preferred-address-types=InternalIP",
            "--enable-aggregator-routing",
        ]

    def controller_manager_arguments(self) -> list[str]:
        """Return the arguments of kube-controller-manager."""
        return [
            f"--kubeconfig={self.kubeconfig}",
            f"--root-ca-file={self.authority.own.certificate}",
            f"--service-account-private-key-file={self.authority.signing_key('service-accounts')}",
            f"--cluster-cidr={POD_RANGE}",
            "--leader-elect=false",
            # As kind has it: a pod that is to go is looked at again at once, and an HPA acts on new pods soon.
            "--horizontal-pod-autoscaler-initial-readiness-delay=5s",
        ]

    def scheduler_arguments(self) -> list[str]:
        """Return the arguments of kube-scheduler."""
        return [f"--kubeconfig={self.kubeconfig}", "--leader-elect=false"]


def _build_kubeconfig(url: str, authority: bytes, token: str) -> str:
    name = "hitcounter"
    data = base64.b64encode(authority).decode()
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": url, "certificate-authority-data": data}}],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": "default"}}],
        "current-context": name,
    }
    return yaml.safe_dump(content, sort_keys=False)
