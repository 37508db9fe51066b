"""A real Kubernetes on this machine: what the chart, the images and the operator are tried on."""
