#!/usr/bin/env bash
# Creates a virtual environment with everything that foal-hf needs, FFmpeg's shared libraries included.
#
#     scripts/setup.sh VENV CONSTRAINTS [EXTRA]
#
# Prints a line for each step, and pip's full output if it fails. PYTHON is the interpreter to use.
# Works with bash 3.2 of macOS. The Makefile runs it again if pyproject.toml or the pins changed.
set -euo pipefail

venv=${1:?usage: scripts/setup.sh VENV CONSTRAINTS [EXTRA]}
constraints=${2:?usage: scripts/setup.sh VENV CONSTRAINTS [EXTRA]}
extra=${3:-}
log=$venv/setup.log

say() { printf '==> %s\n' "$*"; }

stop() {
    printf 'error: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf '    %s\n' "$line" >&2; done
    exit 1
}

# Runs a command as root, directly or with a sudo that needs no password; else fails.
may_be_root() { [ "$(id -u)" = 0 ] || { command -v sudo && sudo -n true; } >/dev/null 2>&1; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

# Runs a command with its output in the log, and shows the log if it fails. A terminal shows the log's last line.
logged() {
    local job status=0
    "$@" >"$log" 2>&1 &
    job=$!
    trap 'kill "$job"; exit 130' INT TERM # a command in the background does not see Ctrl-C
    while [ -t 1 ] && kill -0 "$job" 2>/dev/null; do
        printf '\r\033[K    %.72s' "$(tail -n 1 "$log")"
        sleep 1
    done
    [ ! -t 1 ] || printf '\r\033[K'
    wait "$job" || status=$?
    trap - INT TERM
    if [ "$status" != 0 ]; then
        cat "$log" >&2
        printf 'error: this failed: %s\n' "$*" >&2
    fi
    return "$status"
}

apt_install() {
    export DEBIAN_FRONTEND=noninteractive
    logged as_root apt-get -qq update
    logged as_root apt-get -qq install -y --no-install-recommends "$@"
}

is_recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        is_recent "$PYTHON" || stop "PYTHON=$PYTHON is not Python 3.11 or newer."
        printf '%s' "$PYTHON"
        return
    fi
    local candidate
    for candidate in python3 python3.13 python3.12 python3.11; do
        if is_recent "$candidate"; then
            printf '%s' "$candidate"
            return
        fi
    done
    stop "Python 3.11 or newer was not found." \
        "If it is not on PATH, give its path:  make quickstart PYTHON=/path/to/python3.11"
}

make_venv() {
    # Debian's Python has no ensurepip without python3-venv; if pip is installed, it can install itself instead.
    if "$python" -c 'import ensurepip' 2>/dev/null; then
        logged "$python" -m venv "$venv"
    elif "$python" -m pip --version >/dev/null 2>&1; then
        logged "$python" -m venv --without-pip "$venv"
        logged "$python" -m pip --python "$venv/bin/python" install pip
    elif command -v apt-get >/dev/null && may_be_root; then
        say "Installing python3-venv with apt-get"
        apt_install python3-venv
        logged "$python" -m venv "$venv"
    else
        stop "$python cannot create a virtual environment. Run this, then the same command again:" \
            "sudo apt-get install -y python3-venv"
    fi
}

ensure_system_libraries() {
    local remedy
    if remedy=$("$python" -P foal_hf/cli/doctor.py --libraries); then
        return
    fi
    if [ "${remedy#*apt-get install -y }" != "$remedy" ] && may_be_root; then
        say "Installing shared libraries: $remedy"
        # shellcheck disable=SC2086 # the rest of the command is the list of packages
        apt_install ${remedy#*apt-get install -y }
        "$python" -P foal_hf/cli/doctor.py --libraries >/dev/null && return
        stop "The libraries were installed, but do not load. See:  $python -P foal_hf/cli/doctor.py"
    fi
    stop "FFmpeg's or Python's shared libraries are missing. Run this, then the same command again:" "$remedy"
}

# Some tests open the page of foal-hf demo in a browser. Everything else works without one, so none is no error.
ensure_browser() {
    if { command -v chromium && command -v chromedriver; } >/dev/null; then
        return
    fi
    if command -v apt-get >/dev/null && may_be_root; then
        say "Installing chromium and chromium-driver for the tests of the demo page"
        apt_install chromium chromium-driver && return
    fi
    say "No chromium and chromedriver: the browser tests of the demo page will be skipped. On Debian, install them with" \
        "sudo apt-get install -y chromium chromium-driver"
}

python=$(find_python)
mkdir -p "$venv"
printf '*\n' >"$venv/.gitignore" # for any name of the folder
say "$("$python" --version), virtual environment $venv"
if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    make_venv
fi
ensure_system_libraries
[ "$extra" != dev ] || ensure_browser

num_pins=$(grep -c == "$constraints")
say "Installing foal-hf, foal-net-small and up to $num_pins packages as pinned in $constraints (a few minutes the first time)"
# As an environment variable, the constraints also apply to build dependencies.
PIP_CONSTRAINT=$constraints PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 \
    logged "$venv/bin/python" -m pip install --editable ".${extra:+[$extra]}" --editable weights/foal-net-small
say "Installed. Check it with: $venv/bin/foal-hf doctor"
