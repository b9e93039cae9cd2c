# What the dist_*.sh and slurm_*.sh commands share: source this file from one of them.

TOOLS=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PYTHONPATH="$(dirname "$TOOLS")${PYTHONPATH:+:$PYTHONPATH}"
# torch would set this to 1 for more than one process anyway, with a warning.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

if [ -z "${PYTHON:-}" ]; then
    PYTHON=python
    [ -x "$(dirname "$TOOLS")/.venv/bin/python" ] && PYTHON=$(dirname "$TOOLS")/.venv/bin/python
fi

# usage WANTED GIVEN TEXT: end with one line unless at least WANTED arguments were given.
usage() {
    if [ "$2" -lt "$1" ]; then
        echo "usage: $(basename "$0") $3" >&2
        exit 2
    fi
}

# launch PROCESSES SCRIPT [ARGS]: run tools/SCRIPT in so many processes on this machine, by torchrun.
# Machines find each other by NNODES, NODE_RANK, MASTER_ADDR and PORT.
launch() {
    local processes=$1 script=$2
    shift 2
    if ! [[ $processes =~ ^[1-9][0-9]*$ ]]; then
        echo "$(basename "$0"): GPUS has to be a positive number, got '$processes'" >&2
        exit 2
    fi
    exec "$PYTHON" "$TOOLS/lib/processes.py" \
        --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
        --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
        --nproc_per_node="$processes" "$TOOLS/$script" "$@" --launcher pytorch
}

# launch_slurm PARTITION JOB_NAME SCRIPT [ARGS]: run tools/SCRIPT as a job.
# Its size comes from GPUS, GPUS_PER_NODE and CPUS_PER_TASK, further options of srun from SRUN_ARGS.
launch_slurm() {
    local partition=$1 job=$2 script=$3 gpus=${GPUS:-8} per_node
    shift 3
    per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
    # shellcheck disable=SC2086 # SRUN_ARGS is several words
    exec srun --partition="$partition" --job-name="$job" --gres=gpu:"$per_node" --ntasks="$gpus" \
        --ntasks-per-node="$per_node" --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
        "$PYTHON" -u "$TOOLS/$script" "$@" --launcher slurm
}
