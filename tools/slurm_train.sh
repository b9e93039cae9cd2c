#!/usr/bin/env bash
# Train as a Slurm job; GPUS, GPUS_PER_NODE, CPUS_PER_TASK and SRUN_ARGS say how large.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib/launch.sh"
usage 3 $# "PARTITION JOB_NAME CONFIG [WORK_DIR] [arguments of tools/train.py]"

if [[ $# -gt 3 && $4 != --* ]]; then
    launch_slurm "$1" "$2" train.py "$3" --work-dir "$4" "${@:5}"
else
    launch_slurm "$1" "$2" train.py "$3" "${@:4}"
fi
