#!/usr/bin/env bash
# Test a checkpoint with several processes: on as many GPUs, or on the processor where there is none.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib/launch.sh"
usage 3 $# "CONFIG CHECKPOINT GPUS [arguments of tools/test.py]"

launch "$3" test.py "$1" "$2" "${@:4}"
