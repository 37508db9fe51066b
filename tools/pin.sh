#!/usr/bin/env bash
# Writes the digests of all outside images to where they are named: the base in the Dockerfile, the stores in the
# values of the bundled charts and in docker-compose.yaml. Needs Docker and the registries; changes files, commits none.
set -euo pipefail
cd "$(dirname "$0")/.."

digest_of() { # image:tag
    docker pull --quiet "$1" >/dev/null || { echo "pin  $1 cannot be pulled from here; nothing was changed" >&2; return 1; }
    docker image inspect --format '{{index .RepoDigests 0}}' "$1" | sed 's/.*@//'
}

value_of() { # key, file: the first such key that is indented, which is the image's
    sed -n "s/^  $1: *//p" "$2" | head -1
}

declare -A digests
python_image=$(sed -n 's/^ARG PYTHON_IMAGE=\([^@]*\).*/\1/p' services/Dockerfile)
digests[$python_image]=$(digest_of "$python_image")
for store in redis elasticsearch; do
    values=charts/hitcounter/charts/$store/values.yaml
    image=$(value_of registry "$values")/$(value_of repository "$values"):$(value_of tag "$values")
    digests[$store]=$(digest_of "$image")
done

sed -i "s|^ARG PYTHON_IMAGE=.*|ARG PYTHON_IMAGE=$python_image@${digests[$python_image]}|" services/Dockerfile
for store in redis elasticsearch; do
    sed -i "s|^  digest: .*|  digest: ${digests[$store]}|" "charts/hitcounter/charts/$store/values.yaml"
    sed -i "s|^\( *image: [^ ]*/$store:[^@ ]*\).*|\1@${digests[$store]}|" docker-compose.yaml
done
git diff --stat
