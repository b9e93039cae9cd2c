"""Measure what a recasting loses against the images it sees: parts of the authors' 1,720 epochs, their start and ours.

ResNet-56 → 27 convolutions. ``xavier`` is the authors' schedule (a random start, block k+1 begun anew, 60 epochs per
block and 100 of fine-tuning) and ``closed_form`` the fast one, each scaled to the same number of images, which
includes those that a start reads; small budgets leave the fast one 8000 / part iterations per block, at a rate in
proportion, the rest is fine-tuning. All else is alike: data, augmentation, precision. What is finished is kept, so
that it can be interrupted, and several calls with other seeds can share a work dir.

Example: ``OMP_NUM_THREADS=1 python tools/benchmarks/budget_curve.py --data-root DIR --teacher resnet56.pth --amp``
"""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev

import torch
from mmengine.config import Config

from mmrecast.analysis.tables import render_table
from mmrecast.apis import train
from mmrecast.engine.hooks import machine
from mmrecast.utils.checkpoint import write_json
from mmrecast.utils.cli import told_in_one_line
from mmrecast.version import __version__

FOLDER = Path(__file__).resolve().parents[2] / 'configs' / 'distill' / 'recasting'
CONFIGS = dict(xavier='recasting_resnet56_convnet_cifar10.py', closed_form='recasting_resnet56_convnet_cifar10-fast.py')
BLOCKS, START_IMAGES = 27, 1024
AUTHORS_EPOCHS = BLOCKS * 60 + 100
PER_BLOCK = 8000  # over the part: iterations per block of the fast schedule where its own are more


@dataclass(frozen=True)
class Outcome:
    """What one run came to.

    Args:
        start (str): 'xavier' or 'closed_form'.
        part (int): The budget is the authors' epochs over this.
        seed (int): Seed of the run.
        top1, teacher_top1 (float): On all test images, in per cent.
        before_finetuning (float, optional): Relative error of the last block's stage.
        images (int): Seen in all.
        seconds (float): Of training, starts included.
        stages (list): Iterations, and relative error before and after, of every stage.
    """

    start: str
    part: int
    seed: int
    top1: float
    teacher_top1: float
    before_finetuning: float | None
    images: int
    seconds: float
    stages: list

    @property
    def gap(self) -> float:
        """float: The teacher's accuracy less the student's, in points."""
        return self.teacher_top1 - self.top1


def config_for(start: str, part: int, seed: int, teacher: str, images: int) -> Config:
    """Return the config of a run that sees a part of the authors' images.

    Args:
        start (str): Which of ``CONFIGS``.
        part (int): The authors' epochs are divided by it.
        seed (int): Seed of the run.
        teacher (str): File with the teacher's weights.
        images (int): Images of an epoch.
    """
    cfg = Config.fromfile(FOLDER / CONFIGS[start])
    cfg.model.teacher_ckpt, cfg.randomness.seed = teacher, seed
    cfg.train_cfg.budget = AUTHORS_EPOCHS * images // part // cfg.train_dataloader.batch_size
    cfg.train_cfg.stages = [dict(stage, val=False) for stage in cfg.train_cfg.stages]
    if start == 'closed_form' and PER_BLOCK // part < cfg.train_cfg.stages[0]['iters']:
        _shorten(cfg, PER_BLOCK // part)
    cfg.train_cfg.probe_images = 128
    cfg.default_hooks.checkpoint = dict(type='StagedCheckpointHook', interval=1)
    return cfg


def _shorten(cfg: Config, per_block: int) -> None:
    """Give every block fewer iterations, at a rate in proportion, and the fine-tuning what is left of the budget."""
    size = cfg.train_dataloader.batch_size
    rest = cfg.train_cfg.budget - BLOCKS * (per_block - (-START_IMAGES // size))
    *recast, finetune = cfg.train_cfg.stages
    cfg.train_cfg.stages = [
        *(_gentler(dict(optim_wrapper=cfg.optim_wrapper) | stage, max(per_block, 1)) for stage in recast),
        {key: value for key, value in finetune.items() if key != 'epochs'} | dict(iters=max(rest, 1)),
    ]


def _gentler(stage: dict, iters: int) -> dict:
    """Return a stage of another length, at a rate in proportion."""
    wrapper = stage['optim_wrapper']
    optimizer = dict(wrapper['optimizer'], lr=wrapper['optimizer']['lr'] * iters / stage['iters'])
    return dict(stage, iters=iters, optim_wrapper=dict(wrapper, optimizer=optimizer))


def outcome(cfg: Config, start: str, part: int, seed: int, work_dir: Path, **options) -> Outcome:
    """Train, or go on, or read what is finished."""
    file = work_dir / 'result.json'
    result = json.loads(file.read_text()) if file.is_file() else {}
    if not result.get('complete'):
        print(f'{start}, 1/{part}, seed {seed} …', file=sys.stderr, flush=True)
        resume = (work_dir / 'last_checkpoint').is_file()
        result = train(cfg, work_dir=str(work_dir), resume=resume, **options)
    stages = [[s['iters'], s['relative_error_start'], s['relative_error']] for s in result['stages']]
    before = stages[-2][2] if len(stages) > 1 else None
    numbers = dict(
        images=result['images'] + sum(s['start_images'] for s in result['stages']), seconds=result['seconds']
    )
    return Outcome(start, part, seed, result['top1'], result['teacher']['top1'], before, **numbers, stages=stages)


def table(outcomes: Sequence[Outcome]) -> str:
    """Return one row per start and part: gap in points, over the seeds."""
    rows = []
    for part, start in sorted({(o.part, o.start) for o in outcomes}, reverse=True):
        group = [o for o in outcomes if (o.part, o.start) == (part, start)]
        gaps = [o.gap for o in group]
        spread = f' ± {stdev(gaps):.2f}' if len(gaps) > 1 else ''
        epochs = AUTHORS_EPOCHS / part
        minutes = mean(o.seconds for o in group) / 60
        rows.append([f'1/{part}', f'{epochs:.1f}', start, f'{mean(gaps):.2f}{spread}', len(gaps), f'{minutes:.1f}'])
    columns = ['part', 'epochs', 'start', 'gap, points', 'seeds', 'minutes']
    return render_table(columns, rows, right=[c for c in columns if c != 'start'])


def plot(outcomes: Sequence[Outcome], path: Path) -> None:
    """Draw the gap against the images seen, one line per start, a point per run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout='constrained')
    axes = figure.subplots()
    for start, marker in zip(CONFIGS, 'so', strict=True):
        own = [o for o in outcomes if o.start == start]
        parts = sorted({o.part for o in own}, reverse=True)
        middle = [mean(o.gap for o in own if o.part == part) for part in parts]
        (line,) = axes.plot([AUTHORS_EPOCHS / part for part in parts], middle, label=start)
        axes.plot([AUTHORS_EPOCHS / o.part for o in own], [o.gap for o in own], marker, color=line.get_color())
    axes.set(xscale='log', xlabel='epochs in all, starts and fine-tuning included', ylabel='gap to the teacher, points')
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--parts', type=int, nargs='+', default=[400, 200, 50], help='of the authors’ epochs (400 200 50)'
    )
    parser.add_argument('--starts', nargs='+', choices=CONFIGS, default=list(CONFIGS), help='both of them')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--data-root', required=True, help='where CIFAR-10 lies')
    parser.add_argument('--teacher', required=True, help='weights of the ResNet-56')
    parser.add_argument('--images', type=int, default=50_000, help='images of an epoch (50000)')
    parser.add_argument('--amp', action='store_true', help='mixed precision, for both starts')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/budget_curve'))
    parser.add_argument('--out', type=Path, help='JSON file for the result')
    parser.add_argument('--plot', type=Path, help='figure of the curve (.svg, .png)')
    args = parser.parse_args()
    with told_in_one_line():
        if min(args.parts) < 1 or args.images < 1:
            raise ValueError(f'--parts and --images must be at least 1, got {min(*args.parts, args.images)}')
        outcomes = []
        for part in args.parts:
            for seed in args.seeds:
                for start in args.starts:
                    cfg = config_for(start, part, seed, args.teacher, args.images)
                    folder = args.work_dir / f'{start}_{part}_seed{seed}'
                    options = dict(data_root=args.data_root, amp=args.amp)
                    outcomes.append(outcome(cfg, start, part, seed, folder, **options))
    print(table(outcomes).rstrip())
    if args.plot:
        plot(outcomes, args.plot)
    if args.out:
        threads = f'OMP_NUM_THREADS={os.environ["OMP_NUM_THREADS"]} ' if 'OMP_NUM_THREADS' in os.environ else ''
        about = dict(command=f'{threads}python {shlex.join(sys.argv)}', machine=machine(), data_root=args.data_root)
        about |= dict(versions=dict(mmrecast=__version__, torch=torch.__version__), mixed_precision=args.amp)
        write_json(about | dict(runs=[asdict(o) | dict(gap=round(o.gap, 3)) for o in outcomes]), args.out)


if __name__ == '__main__':
    main()
