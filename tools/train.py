"""Train by a config: recast, distil, or train from scratch."""

import argparse
import os

from mmrecast.apis import ready_runner
from mmrecast.engine import NoDeterministicForm, RunEnded
from mmrecast.utils.cli import STOPS, KeyValues, told_in_one_line
from mmrecast.utils.config_file import read_config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='where logs, checkpoints and results go (work_dirs/<config name>)')
    parser.add_argument(
        '--resume', nargs='?', const=True, default=False, metavar='CKPT',
        help="go on from CKPT, without it from the work dir's last checkpoint",
    )  # fmt: skip
    parser.add_argument('--amp', action='store_true', help='mixed precision: float16 on a GPU, bfloat16 on a CPU')
    parser.add_argument('--deterministic', action='store_true', help='the same bits every time on a GPU, too; slower')
    parser.add_argument('--data-root', help='where the data lies, for every loader of the config')
    parser.add_argument('--cfg-options', nargs='+', action=KeyValues, help='key=value, overriding the config')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    with told_in_one_line():
        cfg = read_config(args.config, args.cfg_options)
        runner = ready_runner(
            cfg,
            work_dir=args.work_dir,
            data_root=args.data_root,
            resume=args.resume,
            amp=args.amp,
            deterministic=args.deterministic,
            launcher=args.launcher,
        )
    with told_in_one_line(*STOPS, RunEnded, NoDeterministicForm):
        runner.train()


if __name__ == '__main__':
    main()
