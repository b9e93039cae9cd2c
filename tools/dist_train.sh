#!/usr/bin/env bash
# Train with several processes: on as many GPUs, or on the processor where there is none.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib/launch.sh"
usage 2 $# "CONFIG GPUS [arguments of tools/train.py]"

launch "$2" train.py "$1" "${@:3}"
