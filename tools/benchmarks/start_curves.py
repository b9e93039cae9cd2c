"""What a start is worth: accuracy and relative error after it alone and after some steps per block.

Each row recasts a whole network, block by block, with so many optimiser steps per block and one of the two starts; no
step is for the closed form alone. The error is that of the logits, on the images that the staged loop probes. Rows that
the JSON file holds already are not computed again, so that a run can be ended and taken up at any row.

    OMP_NUM_THREADS=1 python tools/benchmarks/start_curves.py --teacher resnet56=resnet56.pth \\
        --data-root DIR --out docs/results/start_curves_cifar10_jpeg.json
"""

import argparse
import json
import os
import shlex
import sys
import tempfile
import time
from pathlib import Path

from mmengine.config import Config

from mmrecast.analysis.tables import render_table
from mmrecast.apis.train import ready_runner
from mmrecast.engine.hooks import machine
from mmrecast.engine.records import top_of
from mmrecast.utils.checkpoint import write_json
from mmrecast.utils.cli import told_in_one_line
from mmrecast.utils.config_file import read_config
from mmrecast.utils.names import nearest
from mmrecast.utils.setup_env import register_all_modules
from mmrecast.utils.versions import made_with

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'distill' / 'recasting'
ALL = 'backbone.layer*.*'
# name -> teacher, config, another recipe than the config's
TRANSFORMATIONS: dict[str, tuple[str, str, list[dict] | None]] = dict(
    resnet56_convnet=('resnet56', 'recasting_resnet56_convnet_cifar10-short', None),
    resnet56_half=(
        'resnet56',
        'recasting_resnet56_convnet_cifar10-short',
        [dict(source=ALL, target=dict(type='BasicBlock', width_ratio=0.5))],
    ),
    resnet56_depthwise=(
        'resnet56',
        'recasting_resnet56_convnet_cifar10-short',
        [dict(source=ALL, target=dict(type='DepthwiseSeparable'))],
    ),
    resnet56_resnet20=('resnet56', 'recasting_resnet56_resnet20_cifar10-short', None),
    resnet29_convnet=('resnet29', 'recasting_resnet29_convnet_cifar10-short', None),
    densenet40_convnet=('densenet40', 'recasting_densenet40_convnet_cifar10-short', None),
    densenet40_basic=('densenet40', 'recasting_densenet40_basic_cifar10-short', None),
    vgg8_half=('vgg8', 'recasting_vgg8_x0.4_cifar10-short', None),
    wrn16_2_half=('wrn16_2', 'recasting_wrn16_2_x0.5_cifar10-short', None),
)
STARTS = ('closed_form', 'xavier')
FEW_BLOCKS = 9  # more steps than 10 per block are taken in networks of at most so many, unless asked for


def start_config(name: str, start: str, steps: int, args: argparse.Namespace) -> Config:
    """Return the config of one row."""
    teacher, leaf, recipe = TRANSFORMATIONS[name]
    cfg = read_config(CONFIGS / f'{leaf}.py')
    cfg.model.teacher_ckpt = args.teachers[teacher]
    cfg.model.start = start if start == 'xavier' else dict(type=start, images=args.images)
    cfg.model.pop('next_block', None)  # that of the start
    if recipe is not None:
        cfg.model.recipe = recipe
    cfg.train_cfg = dict(type='StagedLoop', stages=[dict(kind='recast', blocks='all', iters=steps, val=False)])
    cfg.val_dataloader.dataset.num_samples = args.test_images
    cfg.custom_hooks, cfg.log_level, cfg.randomness = [], 'WARNING', dict(seed=args.seed)
    return cfg


def measure(name: str, start: str, steps: int, args: argparse.Namespace) -> dict | None:
    """Return one row, None where it would take too long."""
    with tempfile.TemporaryDirectory() as folder:
        runner = ready_runner(start_config(name, start, steps, args), work_dir=folder, data_root=args.data_root)
        model, blocks = runner.bare_model, len(runner.train_loop.stages)
        if steps > 10 and blocks > FEW_BLOCKS and not args.long:
            return None
        began = time.perf_counter()
        with model.judging(model.teacher):
            teacher = top_of(runner.val_loop.run())
        runner.train()
        row = dict(transformation=name, start=start, steps=steps, blocks=blocks, images=args.images, seed=args.seed)
        row |= dict(test_images=len(runner.val_dataloader.dataset), teacher_top1=teacher)
        row |= dict(top1=top_of(runner.val_loop.run()), relative_error=runner.train_loop.history[-1]['relative_error'])
        row |= dict(block_errors={path: round(s.error, 5) for path, s in model.starts.items()})
        return row | dict(seconds=round(time.perf_counter() - began, 1))


def rows_to_come(args: argparse.Namespace) -> list[tuple[str, str, int]]:
    """Return (transformation, start, steps) of all rows, those with few steps first."""
    return [
        (name, start, steps)
        for steps in sorted(args.steps)
        for name in args.only
        for start in STARTS
        if (steps or start == 'closed_form') and TRANSFORMATIONS[name][0] in args.teachers
    ]


def table(rows: list[dict]) -> str:
    """Return one line per transformation and start, one column per number of steps."""
    steps = sorted({row['steps'] for row in rows})
    found = {(row['transformation'], row['start'], row['steps']): row for row in rows}
    lines = []
    for name, start in dict.fromkeys((row['transformation'], row['start']) for row in rows):
        own = [found.get((name, start, n)) for n in steps]
        teacher = next(row for row in own if row)['teacher_top1']
        cells = ['' if r is None else f'{r["top1"]:.1f} ({r["relative_error"]:.2f})' for r in own]
        lines.append([name, start, f'{teacher:.1f}', *cells])
    columns = ['transformation', 'start', 'teacher', *(f'{n} steps' for n in steps)]
    return render_table(columns, lines, right=columns[2:])


def read_teachers(entries: list[str]) -> dict[str, str]:
    """Return the files of ``NAME=FILE`` entries by name.

    Raises:
        ValueError: An entry is none, or names an unknown network.
        FileNotFoundError: There is no such file.
    """
    known = {teacher for teacher, _, _ in TRANSFORMATIONS.values()}
    teachers = {}
    for entry in entries:
        name, _, path = entry.partition('=')
        if name not in known or not path:
            raise ValueError(f'--teacher takes NAME=FILE, got {entry!r}{nearest(name, known)}')
        if not Path(path).is_file():
            raise FileNotFoundError(f'--teacher {name}: there is no file {path}')
        teachers[name] = path
    return teachers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--teacher', action='append', required=True, metavar='NAME=FILE', help='a trained teacher')
    parser.add_argument('--only', nargs='+', default=list(TRANSFORMATIONS), choices=TRANSFORMATIONS, help='all of them')
    parser.add_argument('--steps', nargs='+', type=int, default=[0, 1, 10, 100], help='per block (0 1 10 100)')
    parser.add_argument('--long', action='store_true', help=f'over 10 steps for over {FEW_BLOCKS} blocks, too')
    parser.add_argument('--images', type=int, default=512, help='training images of a start (512)')
    parser.add_argument('--test-images', type=int, default=1000, help='for the accuracy (1000)')
    parser.add_argument('--seed', type=int, default=0, help='of training (0)')
    parser.add_argument('--data-root', help='where CIFAR-10 lies')
    parser.add_argument('--out', type=Path, required=True, help='JSON file; rows that it holds are kept')
    args = parser.parse_args()
    with told_in_one_line():
        args.teachers = read_teachers(args.teacher)
        if min(args.steps) < 0:
            raise ValueError(f'--steps must be whole numbers of at least 0, got {min(args.steps)}')
        if not args.out.resolve().parent.is_dir():
            raise ValueError(f'--out {args.out} is no file in a folder that is there')
        register_all_modules()
        threads = f'OMP_NUM_THREADS={os.environ["OMP_NUM_THREADS"]} ' if 'OMP_NUM_THREADS' in os.environ else ''
        about = dict(command=f'{threads}python {shlex.join(sys.argv)}', machine=machine(), versions=made_with())
        rows = json.loads(args.out.read_text())['rows'] if args.out.is_file() else []
        keys = ('transformation', 'start', 'steps', 'images', 'test_images', 'seed')
        done = {tuple(row[key] for key in keys) for row in rows}
        for name, start, steps in rows_to_come(args):
            if (name, start, steps, args.images, args.test_images, args.seed) in done:
                continue
            print(f'{name}, {start}, {steps} steps per block …', file=sys.stderr, flush=True)
            row = measure(name, start, steps, args)
            if row is not None:
                rows.append(row)
                write_json(dict(about, rows=rows), args.out)
        if rows:
            print(table(rows).rstrip())


if __name__ == '__main__':
    main()
