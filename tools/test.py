"""Measure the student of a checkpoint (or a student.pth) on a config's test data."""

import argparse
import os

from mmrecast.apis import test
from mmrecast.utils.cli import KeyValues, told_in_one_line
from mmrecast.utils.config_file import read_config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='the config the checkpoint was trained by')
    parser.add_argument('checkpoint', help='a checkpoint of the run, or its student.pth')
    parser.add_argument('--work-dir', help='where logs go')
    parser.add_argument('--data-root', help='where the data lies, for every loader of the config')
    parser.add_argument('--cfg-options', nargs='+', action=KeyValues, help='key=value, overriding the config')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    with told_in_one_line():
        cfg = read_config(args.config, args.cfg_options)
        metrics = test(cfg, args.checkpoint, work_dir=args.work_dir, data_root=args.data_root, launcher=args.launcher)
    print(metrics)


if __name__ == '__main__':
    main()
