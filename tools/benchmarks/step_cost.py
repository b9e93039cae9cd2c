"""Time a training step against a hand-written PyTorch loop that computes the same, and against MMRazor's.

A step here is an iteration of the staged loop with its batch in hand: hooks, crop and flip, normalisation, both
networks, losses, backward pass, optimiser. The others take their steps on the same batches in the same run, every
round beginning with another one. MMRazor's step is its ``train_step`` alone: hooks, crop and flip are not in it.
Images and weights are random; in the first rounds all must give the same losses and weights. malloc keeps what is
freed meanwhile: else whose turn it is pays for the pages that others gave back.

    OMP_NUM_THREADS=1 python tools/benchmarks/step_cost.py --out docs/results/step_cost_cpu.json
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from conditions import conditions, keep_memory, spread
from handwritten_steps import KD, FactorTransfer, FactorTransferPretraining, FitNets, FitNetsPretraining
from mmengine.config import Config
from step_turns import CHECKED, MMRAZOR, OURS, PLAIN, Turns

from mmrecast.analysis.latency import check_counts
from mmrecast.analysis.numbers import milliseconds
from mmrecast.analysis.tables import render_table
from mmrecast.apis.train import ready_runner
from mmrecast.utils.checkpoint import write_json
from mmrecast.utils.cli import told_in_one_line
from mmrecast.utils.names import nearest
from mmrecast.utils.setup_env import register_all_modules

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'distill'
# name -> folder and start of the config's name, the stage that is timed, the step written by hand
METHODS = dict(
    kd=('kd/kd', 'train', KD),
    factor_transfer=('factor_transfer/factor_transfer', 'train', FactorTransfer),
    factor_transfer_pretrain=('factor_transfer/factor_transfer', 'pretrain', FactorTransferPretraining),
    fitnets=('fitnets/fitnets_one-stage', 'train', FitNets),
    fitnets_pretrain=('fitnets/fitnets', 'pretrain', FitNetsPretraining),
)
SGD = dict(lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)


@dataclass(frozen=True)
class StepCost:
    """What the steps of one method take.

    Args:
        method (str): Its name.
        batch_size (int): Images in a batch.
        rounds (int): Measured rounds.
        ms (dict[str, float]): Median of each one's step, in milliseconds.
        ratio (dict[str, list[float]]): Of each of the others, its time over ours: median, 10th and 90th percentile of
            the rounds.
        cpu_ratio (dict[str, list[float]]): The same of the time on the processor, which other programs lengthen less.
        difference (dict[str, list[float]]): How far its losses (relative) and weights (in units of their change) were
            at most from ours in the first rounds.
    """

    method: str
    batch_size: int
    rounds: int
    ms: dict[str, float]
    ratio: dict[str, list[float]]
    cpu_ratio: dict[str, list[float]]
    difference: dict[str, list[float]]


def measure(method: str, pair: str, batch_size: int, rounds: int, with_mmrazor: bool) -> StepCost:
    """Time the steps of one method; the arguments are those of the command line."""
    _, kind, handwritten = METHODS[method]
    cfg = timed_config(method, pair, batch_size, rounds + CHECKED)
    with tempfile.TemporaryDirectory() as folder:
        runner = ready_runner(cfg, work_dir=folder)
        model = runner.bare_model

        def others() -> dict[str, Callable]:
            own = [link.connector for link in model.links if link.connector is not None]
            connectors = dict(model.connectors, connector=own[0] if own else None)
            given = (model.teacher, model.student, cfg.data_preprocessor)
            steps = {PLAIN: handwritten(*given, SGD, connectors)}
            if with_mmrazor:
                from mmrazor_steps import MMRazorStep

                steps[MMRAZOR] = MMRazorStep(method, *given, dict(SGD, type='SGD'), connectors)
            return steps

        runner.train_loop.turns = turns = Turns(kind, others)
        runner.train()
    return StepCost(
        method, batch_size, rounds,
        {name: round(median(one[name] for one in turns.ms), 3) for name in turns.ms[0]},
        *({name: spread([one[name] / one[OURS] for one in times]) for name in turns.others}
          for times in (turns.ms, turns.cpu_ms)),
        turns.differences,
    )  # fmt: skip


def timed_config(method: str, pair: str, batch_size: int, iters: int) -> Config:
    """Return a method's config with random images, no teacher's weights, and ``iters`` of the stage that is timed.

    Raises:
        FileNotFoundError: The method has no config for the pair.
    """
    start, kind, _ = METHODS[method]
    path = CONFIGS / f'{start}_{pair}.py'
    if not path.is_file():
        name = Path(start).name
        pairs = [other.stem.removeprefix(f'{name}_') for other in path.parent.glob(f'{name}_*.py')]
        raise FileNotFoundError(f'{method} has no config for the pair {pair!r}{nearest(pair, pairs)}')
    cfg = Config.fromfile(path)
    cfg.model.teacher_ckpt = None
    data = dict(shape=cfg.data_preprocessor.input_shape, num_classes=cfg.model.student.head.num_classes)
    cfg.train_dataloader.batch_size = batch_size
    cfg.train_dataloader.dataset = dict(type='ImagesToTime', num_images=batch_size * iters, **data)
    cfg.custom_hooks, cfg.log_level = [], 'WARNING'
    for name in ('val', 'test'):
        for key in (f'{name}_dataloader', f'{name}_cfg', f'{name}_evaluator'):
            cfg[key] = None
    steady = dict(type='MultiStepLR', milestones=[10**9], by_epoch=False)
    same = dict(optim_wrapper=dict(type='OptimWrapper', optimizer=dict(SGD, type='SGD')), param_scheduler=steady)
    kinds = [stage['kind'] for stage in cfg.train_cfg.stages]
    stages = [dict(kind=k, iters=iters if k == kind else 1, val=False, **same) for k in kinds]
    cfg.train_cfg = dict(type='TurnsLoop', stages=stages)
    return cfg


def mmrazor_version() -> str | None:
    """Return the version of MMRazor, or None, and one line on stderr, where it cannot be imported."""
    try:
        import mmrazor.models
    except Exception as error:  # it may not suit the libraries here
        print(f'mmrazor cannot be imported, so it is not measured: {str(error).splitlines()[0]}', file=sys.stderr)
        return None
    return mmrazor.__version__


def table(costs: Sequence[StepCost]) -> str:
    """Return one row per method and batch size."""
    others = [name for name in (PLAIN, MMRAZOR) if name in costs[0].ratio]
    columns = ['method', 'batch', f'{OURS}, ms']
    columns += [text for name in others for text in (f'{name}, ms', 'ratio', '10–90 %')]
    rows = []
    for cost in costs:
        row = [cost.method, cost.batch_size, milliseconds(cost.ms[OURS])]
        for name in others:
            middle, low, high = cost.ratio[name]
            row += [milliseconds(cost.ms[name]), f'{middle:.3f}', f'{low:.3f}–{high:.3f}']
        rows.append(row)
    return render_table(columns, rows, right=columns[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--methods', nargs='+', default=list(METHODS), choices=METHODS, help='all of them')
    parser.add_argument('--pair', default='resnet56_resnet20_cifar100', help='end of the configs’ names')
    parser.add_argument('--batch-sizes', nargs='+', type=int, default=[128, 64], help='images per step (128 64)')
    parser.add_argument('--rounds', type=int, default=15, help='measured rounds (15)')
    parser.add_argument('--with-mmrazor', action='store_true', help='measure MMRazor, too, if it can be imported')
    parser.add_argument('--out', type=Path, help='JSON file for the result')
    args = parser.parse_args()
    with told_in_one_line():
        check_counts(rounds=args.rounds, batch_size=min(args.batch_sizes))
        if args.out and not args.out.resolve().parent.is_dir():
            raise ValueError(f'--out {args.out} is no file in a folder that is there')
        register_all_modules()
        razor = mmrazor_version() if args.with_mmrazor else None
        about = conditions() | dict(pair=args.pair, memory_kept=keep_memory())
        about['versions']['mmrazor'] = razor
        costs = []
        for size in args.batch_sizes:
            for method in args.methods:
                print(f'{method}, batch {size}: {args.rounds} rounds …', file=sys.stderr, flush=True)
                costs.append(measure(method, args.pair, size, args.rounds, razor is not None))
        print(table(costs).rstrip())
        if args.out:
            write_json(dict(**about, costs=[asdict(cost) for cost in costs]), args.out)


if __name__ == '__main__':
    main()
