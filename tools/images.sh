#!/usr/bin/env bash
# Builds the images of the services and tries each: it starts, says its version, lives without its servers, ends when
# asked, and has nothing of the other services, of builds and of caches. Says what it uses on the way.
#
#     tools/images.sh [--save] [IMAGE...]  all services (services/*) by default
#
# --save: leaves them in dist/images/*.tar, too.
# The engine: a Docker that runs here. Else, as root on Debian or Ubuntu, one from the distribution's packages: unpacked
# into the cache and not installed, run for as long as this takes, the images left in dist/images/*.tar.
# The base: what the Dockerfile names. Where no registry can be reached, a substitute of the same kind: the distribution's
# own Python, put together by debootstrap. It carries this machine's certificates, so it is for here alone.
set -euo pipefail
cd "$(dirname "$0")/.."

MAX_MEGABYTES_OVER_BASE=150
# The official Kubernetes client takes about 130 MB, bytecode included: it has a model of every kind of object, twice.
MAX_MEGABYTES_OF_THE_OPERATOR=250
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/hitcounter
[ "$(id -u)" = 0 ] && CACHE=/var/cache/hitcounter
SUBSTITUTE=hitcounter-substitute-base
VERSION=$(sed -n 's/^appVersion: //p' charts/hitcounter/Chart.yaml)
REVISION=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)

say() { printf '\033[36mimages\033[0m  %s\n' "$*" >&2; }
fail() { printf '\033[31mimages\033[0m  %s\n' "$*" >&2; exit 1; }

# ── the engine ───────────────────────────────────────────────────────────────────────────────────────────────────────

started=()
stop_engine() {
    for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${started[@]}"; do wait "$pid" 2>/dev/null || true; done
}
trap stop_engine EXIT

find_engine() {
    if docker info >/dev/null 2>&1; then
        say "building with the Docker that runs here"
        return
    fi
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        fail "no Docker runs here. Start it; or, on Debian or Ubuntu, run this as root and it brings its own"
    fi
    unpack_engine
    start_engine
}

unpack_engine() {
    engine=$CACHE/docker-engine
    [ -x "$engine/root/usr/sbin/dockerd" ] && return
    say "no Docker runs here: unpacking docker.io and debootstrap from the distribution into $engine"
    rm -rf "$engine"
    mkdir -p "$engine/packages"
    local packages=(docker.io containerd runc debootstrap libdevmapper1.02.1 libnftables1 libnftnl11 iptables libip4tc2 libip6tc2 libxtables12)
    (cd "$engine/packages" && { apt-get -qq -o APT::Sandbox::User=root download "${packages[@]}" 2>/dev/null || {
        apt-get -qq update && apt-get -qq -o APT::Sandbox::User=root download "${packages[@]}"; }; })
    for package in "$engine"/packages/*.deb; do dpkg -x "$package" "$engine/root"; done
}

start_engine() {
    exec 9>"$engine/.lock"
    flock --nonblock 9 || { say "waiting for another build to be done with the engine"; flock 9; }
    export PATH=$engine/root/usr/bin:$engine/root/usr/sbin:$engine/root/sbin:$PATH
    export LD_LIBRARY_PATH=$(echo "$engine"/root/usr/lib/*-linux-gnu*)
    export DOCKER_HOST=unix://$engine/run/docker.sock DOCKER_BUILDKIT=0
    mkdir -p "$engine/run"
    cat > "$engine/run/containerd.toml" <<END
version = 2
root = "$engine/containerd"
state = "$engine/run/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "$engine/run/containerd.sock"
END
    say "starting it for as long as this takes (logs in $engine/run)"
    containerd --config "$engine/run/containerd.toml" >"$engine/run/containerd.log" 2>&1 9>&- &
    started+=($!)
    wait_until 30 test -S "$engine/run/containerd.sock" || fail "containerd does not start: $(tail -3 "$engine/run/containerd.log")"
    dockerd --containerd "$engine/run/containerd.sock" --host "$DOCKER_HOST" --data-root "$engine/data" \
        --exec-root "$engine/run/docker" --pidfile "$engine/run/docker.pid" --iptables=false --ip6tables=false --ip-forward=false --bridge=none \
        >"$engine/run/dockerd.log" 2>&1 9>&- &
    started=($! "${started[@]}")
    wait_until 60 docker info || fail "dockerd does not start: $(tail -3 "$engine/run/dockerd.log")"
}

wait_until() { # seconds, command...
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.2
    done
}

# ── the base ─────────────────────────────────────────────────────────────────────────────────────────────────────────

find_base() {
    base=$(sed -n 's/^ARG PYTHON_IMAGE=//p' services/Dockerfile)
    if docker image inspect "$base" >/dev/null 2>&1 || timeout 120 docker pull --quiet "$base" >/dev/null 2>&1; then
        say "on $base"
        return
    fi
    say "$base cannot be pulled here"
    base=$SUBSTITUTE
    docker image inspect "$base" >/dev/null 2>&1 || make_substitute
    say "on a substitute from this distribution's packages"
}

make_substitute() {
    local debootstrap=debootstrap folder
    if ! command -v debootstrap >/dev/null; then
        fail "debootstrap is needed for a substitute base. On Debian or Ubuntu: apt-get install debootstrap"
    fi
    [ "$(id -u)" = 0 ] || fail "a substitute base can only be made by root"
    [ -n "${engine:-}" ] && export DEBOOTSTRAP_DIR=$engine/root/usr/share/debootstrap
    folder=$(mktemp -d)
    say "making a substitute base (about a minute)"
    "$debootstrap" --variant=minbase --include=ca-certificates,python3,python3-venv \
        "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$folder" >"$folder.log" 2>&1 || fail "debootstrap failed: $(tail -3 "$folder.log")"
    # How this machine reaches its package index: certificates and pip's configuration. In the substitute only.
    cp /etc/ssl/certs/ca-certificates.crt "$folder/etc/ssl/certs/"
    [ -f /etc/pip.conf ] && cp /etc/pip.conf "$folder/etc/"
    rm -rf "$folder/var/cache/apt/archives" "$folder/var/lib/apt/lists"
    ln -sf python3 "$folder/usr/bin/python"
    local changes=(-c 'ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt PIP_CERT=/etc/ssl/certs/ca-certificates.crt')
    local variable
    for variable in PIP_INDEX_URL UV_INDEX_URL UV_DEFAULT_INDEX HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy; do
        [ -n "${!variable:-}" ] && changes+=(-c "ENV $variable=${!variable}")
    done
    tar -C "$folder" -c . | docker import "${changes[@]}" - "$SUBSTITUTE" >/dev/null
    rm -rf "$folder" "$folder.log"
}

# ── building and trying ──────────────────────────────────────────────────────────────────────────────────────────────

build() { # image
    say "building $1:$VERSION"
    docker build --quiet --network host --file services/Dockerfile --tag "$1:$VERSION" --tag "$1:latest" \
        --build-arg "SERVICE=${1#hitcounter-}" --build-arg "PYTHON_IMAGE=$base" --build-arg "VERSION=$VERSION" --build-arg "REVISION=$REVISION" . >/dev/null
}

# As the chart runs it: nothing can be written, no capabilities.
RESTRICTED=(--read-only --cap-drop ALL --security-opt no-new-privileges --network host)
run() { docker run --rm "${RESTRICTED[@]}" "$@"; }

try() { # image
    local image=$1 service=${1#hitcounter-} other said
    said=$(run "$image:$VERSION" --version) || fail "$image does not start"
    [ "$said" = "$image $VERSION" ] || fail "$image says «$said» in place of «$image $VERSION»"
    for other in $(services); do
        [ "$other" = "$service" ] && continue
        run --entrypoint python "$image:$VERSION" -c "import hitcounter_$other" 2>/dev/null && fail "$image can import hitcounter_$other"
    done
    try_to_find_leftovers "$image"
    [ "$(docker image inspect --format '{{.Config.User}}' "$image:$VERSION")" = 65532:65532 ] || fail "$image runs as another user"
    try_to_live "$image"
    weigh "$image"
    say "$image: alive after $alive_ms ms, ends with status 0, $megabytes MB over its base of $(($(size "$base") / 1000000)) MB"
}

# Over its base it has one layer, the environment that was built elsewhere: no step of the build is in its history.
try_to_find_leftovers() { # image
    local layers
    layers=$(($(layers "$1:$VERSION") - $(layers "$base")))
    [ "$layers" = 1 ] || fail "$1 has $layers layers over its base, not one: docker history $1:$VERSION"
    run --entrypoint python "$1:$VERSION" -c '
import pathlib, shutil, sys
found = [tool for tool in ("cc", "gcc", "make", "git", "uv") if shutil.which(tool)]
found += [str(path) for path in pathlib.Path("/opt/hitcounter/bin").glob("pip*")]
sys.exit(f"left of the build: {found}" if found else 0)' || fail "$1 is not clean"
}

layers() { docker image inspect --format '{{len .RootFS.Layers}}' "$1"; }

weigh() { # image
    megabytes=$((($(size "$1:$VERSION") - $(size "$base")) / 1000000))
    local limit=$MAX_MEGABYTES_OVER_BASE
    [ "$1" != hitcounter-operator ] || limit=$MAX_MEGABYTES_OF_THE_OPERATOR
    [ "$megabytes" -lt "$limit" ] || fail "$1 is $megabytes MB over its base; the limit is $limit"
}

size() { docker image inspect --format '{{.Size}}' "$1"; }

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# Its servers are nowhere: it must live all the same, wait for them, and end when asked.
try_to_live() { # image
    local image=$1 port begun status container
    port=$(free_port)
    begun=$(date +%s%3N)
    container=$(docker run --detach "${RESTRICTED[@]}" \
        -e HITCOUNTER_REDIS__URL=redis://127.0.0.1:1 -e HITCOUNTER_ELASTICSEARCH__URL=http://127.0.0.1:1 \
        -e "HITCOUNTER_HTTP__PORT=$(free_port)" -e "HITCOUNTER_MANAGEMENT__PORT=$port" "$image:$VERSION")
    if ! wait_until 30 python3 -c "import urllib.request; urllib.request.urlopen('http://127.0.0.1:$port/livez', timeout=1)"; then
        docker logs --tail 20 "$container" >&2
        docker rm --force "$container" >/dev/null
        fail "$image is not alive after 30 s"
    fi
    alive_ms=$(($(date +%s%3N) - begun))
    docker kill --signal TERM "$container" >/dev/null
    status=$(timeout 60 docker wait "$container") || status="none within a minute"
    docker rm --force "$container" >/dev/null
    [ "$status" = 0 ] || fail "$image ends with status $status when asked to"
}

save() { # image
    mkdir -p dist/images
    docker save --output "dist/images/$1.tar" "$1:$VERSION"
    say "saved to dist/images/$1.tar"
}

services() { for file in services/*/pyproject.toml; do basename "$(dirname "$file")"; done; }

keep=
if [ "${1:-}" = --save ]; then
    keep=yes
    shift
fi
images=("$@")
[ ${#images[@]} -gt 0 ] || for service in $(services); do images+=("hitcounter-$service"); done
find_engine
find_base
for image in "${images[@]}"; do
    build "$image"
    try "$image"
    # An engine that was started for this alone takes its images with it.
    if [ "$keep" ] || [ ${#started[@]} -gt 0 ]; then save "$image"; fi
done
