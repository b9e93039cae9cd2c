#!/usr/bin/env bash
# Train a teacher, recast it, and compare the student with KD and back propagation, in one command.
#   tools/quickstart.sh [--data-root DIR for CIFAR-10] [--out DIR] [--seed N] [--scale S]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib/venv.sh"
ensure_venv

exec "$VENV_PYTHON" "$(dirname "${BASH_SOURCE[0]}")/quickstart.py" "$@"
