#!/usr/bin/env bash
# Generates the protobuf module of the contract into the given folder (default: its place in the foundation).
set -euo pipefail
cd "$(dirname "$0")/.."
.venv/bin/python -m grpc_tools.protoc --proto_path=proto --python_out="${1:-packages/hitcounter/src}" \
    --pyi_out="${1:-packages/hitcounter/src}" hitcounter/v1/hit.proto
