"""The command hitcounter-cluster: starts a real Kubernetes on this machine, installs add-ons, and removes it."""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from hitcounter_devstack.console import Console
from hitcounter_devstack.doctor import print_findings
from hitcounter_devstack.errors import DevstackError
from hitcounter_devstack.locks import exclusive
from hitcounter_devstack.progress import say

from hitcounter_cluster import kind
from hitcounter_cluster.addons import ADDONS, install
from hitcounter_cluster.doctor import examine
from hitcounter_cluster.node import Node
from hitcounter_cluster.our_images import require_our_archives
from hitcounter_cluster.programs import ADDON_PROGRAMS, NODE_PROGRAMS, require_program
from hitcounter_cluster.runtime import require_runtime
from hitcounter_cluster.storage import provide_volumes
from hitcounter_cluster.substitute_images import node_images, require_archive, store_images

DNS = "coredns"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exits with 0, or 1 when something failed or is missing."""
    parser = argparse.ArgumentParser(prog="hitcounter-cluster", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True, metavar="COMMAND")
    up_ = actions.add_parser(
        "up", help="start the cluster with our images and those of the stores; if it runs, update it"
    )
    up_.add_argument("addons", nargs="*", choices=[*(set(ADDONS) - {DNS}), []], metavar="ADDON", help=", ".join(ADDONS))
    actions.add_parser("setup", help="build everything that up needs; takes half an hour the first time")
    actions.add_parser("down", help="remove the cluster and everything on it")
    actions.add_parser("doctor", help="list what this machine has, and how to get what is missing")
    options = parser.parse_args(arguments)
    if options.action == "doctor":
        print_findings(examine(), Console())
        return
    try:
        with exclusive("cluster"):
            _ACTIONS[options.action](options)
    except DevstackError as error:
        sys.exit(str(error))


def setup() -> None:
    """Build and fetch everything that a cluster with all add-ons needs.

    Raises:
        DevstackError: something is missing, or failed.
    """
    require_runtime()
    for program in (*NODE_PROGRAMS, *ADDON_PROGRAMS):
        require_program(program)
    for image in (*store_images(), *(image for addon in ADDONS.values() for image in addon.images())):
        require_archive(image)
    require_our_archives()


def up(addons: Sequence[str]) -> Node:
    """Bring the node up with these add-ons, and return it.

    Raises:
        DevstackError: something is missing, or failed.
    """
    begun = time.monotonic()
    archives = [*require_our_archives(), *map(require_archive, [*node_images(), *store_images()])]
    node = Node()
    node.up()
    for archive in archives:
        node.import_image(archive)
    provide_volumes(node)
    for name in (DNS, *addons):
        install(node, name)
    say(f"ready in {time.monotonic() - begun:.0f} s. To use it:")
    print(f"export KUBECONFIG={node.plane.kubeconfig} PATH={node.commands_folder}:$PATH")
    return node


def _up(addons: Sequence[str]) -> None:
    # A node that is up already is what its owner wants.
    if kind.is_kind_here() and Node().pid is None:
        kind.up(addons)
    else:
        up(addons)


def _down() -> None:
    if kind.is_kind_here():
        kind.down()
    Node().down()
    say("the cluster is down, and left nothing")


_ACTIONS: Mapping[str, Callable[[argparse.Namespace], object]] = {
    "up": lambda options: _up(options.addons),
    "setup": lambda _: setup(),
    "down": lambda _: _down(),
}


if __name__ == "__main__":
    main()
