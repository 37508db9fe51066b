#!/usr/bin/env bash
# Writes requirements/*.lock: pinned with hashes and without the address of any package index, so that they hold
# wherever the packages come from. Pass --upgrade to take newer versions.
set -euo pipefail
cd "$(dirname "$0")/.."

uv=$(command -v uv || echo .uv/bin/uv)
members=(hitcounter hitcounter-api hitcounter-indexer hitcounter-operator hitcounter-devstack hitcounter-benchmark hitcounter-cluster)
excluded=()
for member in "${members[@]}"; do excluded+=(--no-emit-package "$member"); done

compile() { # output, then what to resolve
    local output=requirements/$1.lock
    shift
    echo "lock  $output" >&2
    "$uv" pip compile "$@" --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet \
        "${excluded[@]}" --output-file "$output" "${options[@]}"
}

options=("$@")
# The images have what traces need, whether or not they are switched on.
compile api services/api/pyproject.toml --extra tracing
compile indexer services/indexer/pyproject.toml --extra tracing
compile operator services/operator/pyproject.toml
compile dev pyproject.toml --group dev
