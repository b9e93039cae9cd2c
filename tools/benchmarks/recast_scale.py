"""Measure what a recasting costs as a network grows deeper, wider or its images larger, against its FLOPs.

Of CIFAR ResNets, each recast into convolutions: the step of some stages and of fine-tuning, the closed-form starts, and
from these the seconds of a whole run; the memory of a stage's step against that of both networks run whole; and the
images per second of two processes against one. Images and weights are random.

    OMP_NUM_THREADS=1 python tools/benchmarks/recast_scale.py --out docs/results/recast_scale_cpu.json \\
        --plot docs/results/recast_scale_cpu.svg
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from conditions import conditions, keep_memory
from process_steps import CONFIG, efficiency
from scale_plot import draw_scale
from stage_steps import StageCost, recasting, walk

from mmrecast.analysis.latency import check_counts
from mmrecast.analysis.numbers import duration, milliseconds, times
from mmrecast.analysis.plots import check_matplotlib
from mmrecast.analysis.tables import render_table
from mmrecast.utils.checkpoint import write_json
from mmrecast.utils.cli import told_in_one_line
from mmrecast.utils.setup_env import register_all_modules

DEPTHS, FACTORS, SIZES = (20, 56, 110), (1, 2, 4), (32, 64, 128)


@dataclass(frozen=True)
class RunCost:
    """What a recasting costs.

    Args:
        depth (int): Of the CIFAR ResNet.
        width (int): Factor on its widths.
        size (int): Pixels per side of an image.
        blocks (int): How many are recast.
        stages (list[StageCost]): Its stages, some of them measured.
        recast_ms (float): Mean of a recasting stage's step, those between two measured ones interpolated.
        start_seconds (float): The same of a stage's beginning.
        finetune_ms (float): A fine-tuning step.
        seconds (float): Of a run of the schedule.
        teraflops (float): FLOPs of that run's steps, in units of 1e12.
        memory_ratio (float): Bytes of the whole networks' step over a stage's, mean over the measured stages.
    """

    depth: int
    width: int
    size: int
    blocks: int
    stages: list[StageCost]
    recast_ms: float
    start_seconds: float
    finetune_ms: float
    seconds: float
    teraflops: float
    memory_ratio: float

    @property
    def name(self) -> str:
        """str: For people."""
        return f'ResNet-{self.depth} x{self.width}, {self.size} px'


@dataclass(frozen=True)
class Schedule:
    """How many images a run sees.

    Args:
        block_images (int): Per block.
        finetune_images (int): In fine-tuning.
    """

    block_images: int
    finetune_images: int


def run_cost(size: tuple[int, int, int], stages: list[StageCost], schedule: Schedule, batch_size: int) -> RunCost:
    """Sum up a run of which some stages were measured; ``size`` is depth, width and pixels."""
    *blocks, last = stages
    at = [i for i, stage in enumerate(blocks) if stage.ms is not None]
    ms, starts = (
        float(np.interp(range(len(blocks)), at, [getattr(blocks[i], name) for i in at]).mean())
        for name in ('ms', 'start_seconds')
    )
    per_block, finetune = schedule.block_images / batch_size, schedule.finetune_images / batch_size
    seconds = len(blocks) * (starts + per_block * ms / 1000) + finetune * last.ms / 1000
    gflops = schedule.block_images * sum(stage.gflops for stage in blocks) + schedule.finetune_images * last.gflops
    ratios = [blocks[i].whole_memory.total / blocks[i].memory.total for i in at]
    return RunCost(
        *size, len(blocks), stages, round(ms, 3), round(starts, 4), last.ms, round(seconds, 1), round(gflops / 1e3, 3),
        round(float(np.mean(ratios)), 3),
    )  # fmt: skip


def exponents(runs: Sequence[RunCost]) -> dict[str, float | None]:
    """Return p of seconds ~ FLOPs^p, fitted on logarithms: over depth, width and resolution alone, and over all.

    It is None where there are fewer than two runs.
    """
    base = dict(depth=runs[0].depth, width=runs[0].width, size=runs[0].size)
    found = {}
    for free in (*base, 'all'):
        own = [r for r in runs if all(getattr(r, name) == v for name, v in base.items() if free not in (name, 'all'))]
        found[free] = round(fit(own)[0], 3) if len(own) > 1 else None
    return found


def fit(runs: Sequence[RunCost]) -> tuple[float, float]:
    """Return slope and offset of the line through log10(teraflops), log10(seconds)."""
    slope, offset = np.polyfit(*(np.log10([getattr(r, name) for r in runs]) for name in ('teraflops', 'seconds')), 1)
    return float(slope), float(offset)


def grid(depths: Sequence[int], factors: Sequence[int], sizes: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return (depth, width, pixels): the first of each, then one of them changed at a time."""
    first = (depths[0], factors[0], sizes[0])
    changed = [(d, *first[1:]) for d in depths] + [(first[0], f, first[2]) for f in factors]
    return list(dict.fromkeys([first, *changed, *((*first[:2], s) for s in sizes)]))


def table(runs: Sequence[RunCost]) -> str:
    """Return one row per network."""
    columns = ['network', 'blocks', 'PFLOPs', 'start, s', 'recast step, ms', 'fine-tuning step, ms', 'run', 'memory']
    rows = [
        [
            run.name, run.blocks, f'{run.teraflops / 1e3:.3f}', f'{run.start_seconds:.2f}',
            milliseconds(run.recast_ms), milliseconds(run.finetune_ms), duration(run.seconds),
            f'{times(run.memory_ratio)} less',
        ]
        for run in runs
    ]  # fmt: skip
    return render_table(columns, rows, right=columns[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--depths', nargs='+', type=int, default=DEPTHS, help='6n+2 (20 56 110)')
    parser.add_argument('--widths', nargs='+', type=int, default=FACTORS, help='factors on 16, 32, 64 (1 2 4)')
    parser.add_argument('--sizes', nargs='+', type=int, default=SIZES, help='pixels per side (32 64 128)')
    parser.add_argument('--batch-size', type=int, default=32, help='images of a step (32)')
    parser.add_argument('--sampled', type=int, default=3, help='recasting stages measured per network (3)')
    parser.add_argument('--seconds', type=float, default=0.5, help='measuring time per stage, if 3 steps fit (0.5)')
    parser.add_argument('--start-images', type=int, default=128, help='images of a closed-form start (128)')
    parser.add_argument('--block-images', type=int, default=7680, help='images per block of the schedule (7680)')
    parser.add_argument('--finetune-images', type=int, default=150_144, help='images of its fine-tuning (150144)')
    parser.add_argument('--processes', type=int, default=2, help='processes against one; 1 measures none (2)')
    parser.add_argument('--shared-batch', type=int, default=128, help='images of a step of all processes (128)')
    parser.add_argument('--shared-iters', type=int, default=6, help='iterations per stage of these runs (6)')
    parser.add_argument('--config', default=CONFIG, help='recasting for these runs (ResNet-20)')
    parser.add_argument('--device', default='cpu', help='of the steps: cpu or cuda (cpu)')
    parser.add_argument('--out', type=Path, help='JSON file for the result')
    parser.add_argument('--plot', type=Path, help='figure of it; its ending says the format')
    args = parser.parse_args()
    with told_in_one_line():
        check_counts(batch_size=args.batch_size, start_images=args.start_images, processes=args.processes)
        if args.sampled < 2 or args.shared_iters < 3:
            raise ValueError(
                'expected --sampled of at least 2, the first and the last stage, and --shared-iters of at least 3, '
                f'two of which warm up; got {args.sampled} and {args.shared_iters}'
            )
        for name in ('out', 'plot'):
            path = getattr(args, name)
            if path and not path.resolve().parent.is_dir():
                raise ValueError(f'--{name} {path} is no file in a folder that is there')
        if args.plot:
            check_matplotlib()
        register_all_modules()
        about = conditions() | dict(memory_kept=keep_memory())
        schedule, runs = Schedule(args.block_images, args.finetune_images), []
        for size in grid(args.depths, args.widths, args.sizes):
            print('ResNet-{} x{}, {} px …'.format(*size), file=sys.stderr, flush=True)
            torch.manual_seed(0)
            algorithm = recasting(*size, args.start_images).to(args.device)
            stages = walk(algorithm, args.sampled, args.batch_size, args.seconds)
            runs.append(run_cost(size, stages, schedule, args.batch_size))
        shared = None
        if args.processes > 1:
            print(f'one process and {args.processes} …', file=sys.stderr, flush=True)
            shared = efficiency(args.config, args.shared_batch, args.shared_iters, args.processes)
        print(table(runs).rstrip())
        found = exponents(runs)
        print('seconds grow as FLOPs to the power of', ', '.join(f'{p} ({k})' for k, p in found.items()))
        for kind, cost in (shared or dict(kinds={}))['kinds'].items():
            print(f'{args.processes} processes, {kind}: efficiency {cost["efficiency"]:.2f}')
        if args.plot:
            draw_scale(runs, fit(runs) if len(runs) > 1 else None, args.plot)
        if args.out:
            result = dict(
                **about, seed=0, device=args.device, batch_size=args.batch_size, start_images=args.start_images,
                schedule=asdict(schedule), exponents=found, processes=shared, runs=[asdict(run) for run in runs],
            )  # fmt: skip
            write_json(result, args.out)


if __name__ == '__main__':
    main()
