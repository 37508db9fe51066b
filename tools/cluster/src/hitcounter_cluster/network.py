"""The addresses of the cluster: its own network, different from those of Docker, kind and most offices."""

HOST_ADDRESS = "10.199.0.1"
"""This machine's end of the wire to the node."""
NODE_ADDRESS = "10.199.0.2"
WIRE_PREFIX_LENGTH = 30
POD_RANGE = "10.200.0.0/16"
SERVICE_RANGE = "10.201.0.0/16"
API_SERVICE_ADDRESS = "10.201.0.1"
DNS_ADDRESS = "10.201.0.10"
API_PORT = 6443
CLUSTER_DOMAIN = "cluster.local"
NODE_NAME = "hitcounter"
WIRE_NAME = "hitcounter0"
"""The wire's end on this machine."""
NODE_WIRE_NAME = "eth0"
