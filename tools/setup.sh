#!/usr/bin/env bash
# Makes .venv at the root: the locked dependencies, checked by hash, and every part of the workspace in editable form.
# Needs Python 3.11 or newer with venv. uv comes from PATH, or from PyPI into .uv/.
set -euo pipefail
cd "$(dirname "$0")/.."

UV_VERSION=0.13.9

say() { printf '\033[36msetup\033[0m  %s\n' "$*" >&2; }
fail() { printf '\033[31msetup\033[0m  %s\n' "$*" >&2; exit 1; }

find_python() {
    local candidate
    for candidate in python3 python3.13 python3.12 python3.11 /usr/bin/python3; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    return 1
}

install_debian_python() {
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        fail "Python 3.11 or newer with venv is needed. On Debian or Ubuntu: apt-get install python3 python3-venv"
    fi
    say "installing python3 and python3-venv from the distribution"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3 python3-venv >/dev/null
}

python=$(find_python) || { install_debian_python; python=$(find_python) || fail "this distribution's Python is older than 3.11"; }

uv=$(command -v uv || true)
if [ -z "$uv" ]; then
    if [ ! -x .uv/bin/uv ]; then
        say "installing uv $UV_VERSION into .uv/"
        "$python" -c 'import ensurepip, venv' 2>/dev/null || install_debian_python
        "$python" -m venv .uv
        .uv/bin/python -m pip install --quiet --disable-pip-version-check "uv==$UV_VERSION"
    fi
    uv=$PWD/.uv/bin/uv
fi

[ -x .venv/bin/python ] || { say "making .venv with $("$python" --version)"; "$uv" venv --quiet --python "$python" .venv; }
export VIRTUAL_ENV=$PWD/.venv
say "installing the locked dependencies (requirements/dev.lock)"
"$uv" pip sync --quiet --require-hashes requirements/dev.lock
say "installing hitcounter itself"
members=()
for member in packages/*/ services/*/ tools/*/; do
    if [ -f "$member/pyproject.toml" ]; then members+=(--editable "$member"); fi
done
"$uv" pip install --quiet --no-deps "${members[@]}"
touch .venv/.ready
say "ready"
