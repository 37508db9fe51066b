"""Volumes for claims: a fixed number of folders of the node, because no provisioner can be pulled from a registry."""

import yaml

from hitcounter_cluster.network import NODE_NAME
from hitcounter_cluster.node import Node

CLASS = "local"
VOLUMES = 16
# More than the chart asks for anywhere; nobody measures it.
CAPACITY = "1Ti"


def provide_volumes(node: Node) -> None:
    """Give the node its storage class, the default one, and volumes for it; those that were used are made anew."""
    existing = set(node.kubectl("get", "persistentvolumes", "--output=name").split())
    used = node.kubectl("get", "persistentvolumes", "--output", _RELEASED).split()
    for name in used:
        node.kubectl("delete", "persistentvolume", name)
    documents: list[object] = [_storage_class()]
    for number in range(VOLUMES):
        name = f"volume-{number}"
        if f"persistentvolume/{name}" not in existing or name in used:
            documents.append(_volume(node, name))
    node.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(documents))


_RELEASED = 'jsonpath={.items[?(@.status.phase=="Released")].metadata.name}'


def _storage_class() -> object:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    }


def _volume(node: Node, name: str) -> object:
    folder = node.fresh_volume(name)
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE_NAME]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": CAPACITY},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": CLASS,
            "local": {"path": str(folder)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        },
    }
