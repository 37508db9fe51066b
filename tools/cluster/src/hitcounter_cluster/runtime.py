"""The container runtime of the node: containerd, runc, iptables and the network plugins, from the distribution.

The packages are unpacked into the cache and not installed: an installation would start a server and put files in many
places.
"""

from dataclasses import dataclass
from pathlib import Path

from hitcounter_devstack.environment import cache_folder, inherited_environment
from hitcounter_devstack.errors import MissingPartError
from hitcounter_devstack.locks import exclusive
from hitcounter_devstack.packages import can_use_apt, unpack_packages

# The libraries are those of iptables, which a small Debian lacks.
PACKAGES = (
    *("containerd", "runc", "iptables", "containernetworking-plugins"),
    *("libnftnl11", "libip4tc2", "libip6tc2", "libxtables12", "libmnl0"),
)
INSTALL_RUNTIME = "the node's containers are run by Debian's or Ubuntu's containerd; elsewhere, use kind and Docker"


@dataclass(frozen=True)
class Runtime:
    """The unpacked packages.

    Attributes:
        home: where they are.
    """

    home: Path

    @property
    def network_plugins(self) -> Path:
        """The folder with the programs that connect pods."""
        return self.home / "usr" / "lib" / "cni"

    def program(self, name: str) -> Path:
        """Return where one of its programs is."""
        return next(path for path in (self.home / folder / name for folder in _FOLDERS) if path.exists())

    def environment(self) -> dict[str, str]:
        """Return our environment, so that these programs find each other and their libraries."""
        inherited = inherited_environment()
        folders = [str(self.home / folder) for folder in _FOLDERS]
        libraries = next((self.home / "usr" / "lib").glob("*-linux-gnu*"))
        return {
            **inherited,
            "PATH": ":".join([*folders, inherited["PATH"]]),
            "LD_LIBRARY_PATH": str(libraries),
            "XTABLES_LIBDIR": str(libraries / "xtables"),
        }


_FOLDERS = ("usr/bin", "usr/sbin", "sbin", "links")
# Installing the package would make these: two programs for two generations of the kernel's firewall, under one name.
_IPTABLES = ("iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore")


def find_runtime() -> Runtime | None:
    """Return the runtime if it was unpacked already; fetches nothing."""
    runtime = Runtime(cache_folder() / "cluster" / "runtime")
    return runtime if runtime.home.exists() else None


def require_runtime() -> Runtime:
    """Return the runtime, downloaded and unpacked the first time.

    Raises:
        MissingPartError: this is no Debian or Ubuntu, or its servers cannot be reached.
    """
    runtime = Runtime(cache_folder() / "cluster" / "runtime")
    if not runtime.home.exists():
        if not can_use_apt():
            raise MissingPartError("There is no containerd to run a node with", INSTALL_RUNTIME)
        with exclusive("cluster-runtime"):
            if not runtime.home.exists():
                unpack_packages(PACKAGES, runtime.home)
    _link_iptables(runtime)
    return runtime


def _link_iptables(runtime: Runtime) -> None:
    links = runtime.home / "links"
    links.mkdir(exist_ok=True)
    for name in _IPTABLES:
        tables, _, action = name.partition("-")
        if not (links / name).is_symlink():
            (links / name).symlink_to(runtime.program("-".join(filter(None, [tables, "nft", action]))))
