#!/usr/bin/env bash
# Test a checkpoint as a Slurm job; GPUS, GPUS_PER_NODE, CPUS_PER_TASK and SRUN_ARGS say how large.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib/launch.sh"
usage 4 $# "PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of tools/test.py]"

launch_slurm "$1" "$2" test.py "$3" "$4" "${@:5}"
