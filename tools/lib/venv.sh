# The environment of the shell commands: source this file, call ensure_venv, and use "$VENV_PYTHON".

# Set VENV_PYTHON to the Python of .venv at the repository root, after making or completing .venv where needed.
# Calls at the same time wait for each other; a set-up that was interrupted is made anew by the next call.
ensure_venv() {
    local root
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd) || return 1
    VENV_PYTHON=$root/.venv/bin/python
    _venv_is_ready "$root" && return 0
    (
        trap 'exit 130' INT TERM  # or bash would take what pip says when it is interrupted for an answer
        if command -v flock >/dev/null; then
            flock 9 || exit 1
        fi
        cd "$root" || exit 1
        _venv_is_ready "$root" || _make_venv "$root"
    ) 9>"$root/.venv.lock"
}

# What was installed from: other requirements, or another place of the repository, are another set-up.
_venv_key() {
    (cd "$1" && { pwd; cat setup.py constraints.txt mmrecast/version.py; } | cksum)
}

_venv_is_ready() {
    [ -x "$1/.venv/bin/python" ] && [ "$(cat "$1/.venv/mmrecast-ready" 2>/dev/null)" = "$(_venv_key "$1")" ]
}

_find_python() {
    local name
    for name in python3.11 python3; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; then
            echo "$name"
            return 0
        fi
    done
    echo "mmrecast needs Python 3.10 or newer: found neither python3.11 nor such a python3" >&2
    return 1
}

_make_venv() {
    local root=$1 venv=$1/.venv key python
    key=$(_venv_key "$root")
    if [ -e "$venv/mmrecast-unfinished" ] || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        python=$(_find_python) || return 1
        echo "Making $venv with $("$python" --version 2>&1) ..." >&2
        rm -rf "$venv"
        if ! "$python" -m venv "$venv" >/dev/null 2>&1; then
            rm -rf "$venv"
            echo "$python cannot make a virtual environment; on Debian and Ubuntu, install python3-venv" >&2
            return 1
        fi
    fi
    rm -f "$venv/mmrecast-ready"
    touch "$venv/mmrecast-unfinished"
    echo "Installing mmrecast into $venv ..." >&2
    # torch alone and pinned first: as a mere requirement of others it could be another, far larger build.
    if _pip torch torchvision setuptools && _pip --no-build-isolation -e '.[tests,quickstart,timm]'; then
        echo "$key" >"$venv/mmrecast-ready"
    fi
    rm -f "$venv/mmrecast-unfinished"  # pip undoes what fails: only a set-up that was killed leaves this file
    [ -e "$venv/mmrecast-ready" ]
}

_pip() {
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt "$@" >&2 ||
        { echo "pip could not install: $*" >&2; return 1; }
}
