#!/usr/bin/env bash
# Lint, check the format, and run all tests, or those that the arguments (of pytest) choose; `--long` as the first
# argument adds those that take minutes: every stage of every config. All of them together share the cores.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tools/lib/venv.sh
ensure_venv

shared=()
if [ $# -eq 0 ] || [ "$*" = --long ]; then
    shared=(-n auto --maxprocesses 4 --dist worksteal)  # each process takes 2 to 3 GB
fi
[ "${1:-}" != --long ] || set -- -m '' "${@:2}"
# One thread everywhere: sums come out the same on every machine, and small tensors are no slower.
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1
"$VENV_PYTHON" -m ruff check --quiet .
"$VENV_PYTHON" -m ruff format --check --quiet . || {
    echo "some files are not formatted: run .venv/bin/ruff format ." >&2
    exit 1
}
exec "$VENV_PYTHON" -m pytest -q ${shared[@]+"${shared[@]}"} "$@"
