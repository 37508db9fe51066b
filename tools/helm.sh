#!/usr/bin/env bash
# The tools that the chart and the workflows are tested with: Helm 4 and 3, promtool, kube-score, actionlint. Built or
# unpacked once into the user's cache, for all checkouts.
#
#     tools/helm.sh                 fetch what is missing, with progress
#     tools/helm.sh path helm-4     print where one of them is (helm-4, helm-3, promtool, …); status 1 if it was
#                                   not fetched
#
# Helm, kube-score and actionlint are built by Go, from their modules. promtool comes from PATH, or from the distribution's package `prometheus`
# (unpacked, not installed: its installation would start a server), or, which takes minutes, from its module.
set -euo pipefail

declare -A MODULES=(
    [helm-4]=helm.sh/helm/v4/cmd/helm@v4.3.1
    [helm-3]=helm.sh/helm/v3/cmd/helm@v3.22.0
    [promtool]=github.com/prometheus/prometheus/cmd/promtool@v0.316.0
    [kube-score]=github.com/zegl/kube-score/cmd/kube-score@v1.20.0
    [actionlint]=github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
)
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/hitcounter/tools
[ "$(id -u)" = 0 ] && CACHE=/var/cache/hitcounter/tools

say() { printf '\033[36mhelm\033[0m  %s\n' "$*" >&2; }
fail() { printf '\033[31mhelm\033[0m  %s\n' "$*" >&2; exit 1; }

place_of() { # tool: its version is part of the name, so that a newer one is fetched when this file asks for it
    if [ "$1" = promtool ] && command -v promtool; then return; fi
    printf '%s/%s\n' "$CACHE" "$1-${MODULES[$1]#*@}"
}

fetch() { # tool
    local tool=$1 place
    place=$(place_of "$tool")
    [ -x "$place" ] && return
    [ "$tool" = promtool ] && unpack_promtool "$place" && return
    build "${MODULES[$tool]}" "$place"
}

unpack_promtool() { # place
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || return 1
    say "unpacking promtool from the distribution's package"
    local folder=$CACHE/unpacking.$$
    mkdir -p "$folder"
    (cd "$folder" && { apt-get -qq -o APT::Sandbox::User=root download prometheus 2>/dev/null ||
        { [ "$(id -u)" = 0 ] && apt-get -qq update && apt-get -qq -o APT::Sandbox::User=root download prometheus; }; }) || return 1
    dpkg -x "$folder"/*.deb "$folder/root"
    mv "$folder/root/usr/bin/promtool" "$1"
    rm -rf "$folder"
}

build() { # module, place
    command -v go >/dev/null || fail "Go is needed to build ${1%@*}: https://go.dev/doc/install (Debian: apt-get install golang)"
    say "building $1 (a minute or two)"
    local folder=$CACHE/building.$$ begun=$SECONDS pid
    mkdir -p "$folder"
    GOBIN=$folder go install "$1" 2>"$folder/log" &
    pid=$!
    while sleep 10; kill -0 "$pid" 2>/dev/null; do say "still building, $((SECONDS - begun)) s"; done
    wait "$pid" || fail "$(tail -5 "$folder/log")"
    mv "$folder/$(basename "${1%@*}")" "$2"
    rm -rf "$folder"
}

if [ "${1:-}" = path ]; then
    place=$(place_of "$2")
    [ -x "$place" ] || fail "$2 was not fetched yet. To fetch it: tools/helm.sh"
    printf '%s\n' "$place"
    exit
fi
mkdir -p "$CACHE"
exec 9>"$CACHE/.lock"
flock 9
for tool in helm-4 helm-3 promtool kube-score actionlint; do fetch "$tool"; done
say "ready"
