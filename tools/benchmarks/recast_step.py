"""Time the step of recasting stages, in turns and on the same batches, against what it could cost and what it must.

* ``mmrecast``: an iteration of the staged loop with its batch in hand: hooks, crop and flip, normalisation, the forward
  passes of both networks up to block k+1, loss, backward pass, optimiser.
* ``handwritten``: a plain PyTorch loop that calls the same layers one by one. Losses and weights are compared first.
* ``hooked``: both networks run whole, the loss is taken by forward hooks behind block k+1. They are compared, too.
* ``whole``: written by hand; both networks of the stage run whole and all of the student trains. It is what shares are
  shares of: a stage's share of the FLOPs is the multiplications of its step (traced; forward passes of both networks,
  and backward what trains) over those of the whole step, its share of the time our step over the whole one. ``excess``
  is the second over the first, less 1; beside it stands that of the handwritten loop. It would be nought if every
  multiplication took as long, which holds for no machine: early layers have more elements for each.

The data path is the fetching of a batch, crop, flip and normalisation, measured by itself. ``saved_mb`` is what is kept
for the backward pass beside weights, in 10^6 bytes (with --checkpointing, one block's insides come on top of it
meanwhile). Images are random, and so are the weights without --teacher-ckpt.

    OMP_NUM_THREADS=1 python tools/benchmarks/recast_step.py --out docs/results/recast_step_cpu.json
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import mean, median

import torch
from conditions import conditions, keep_memory, spread
from handwritten_recasting import Recasting, WholeStep, WholeWithHooks
from mmengine.config import Config
from mmengine.runner import Runner
from stage_flops import step_mults, whole_mults
from step_turns import CHECKED, OURS, PLAIN, Turns
from torch import nn

from mmrecast.analysis.latency import check_counts
from mmrecast.analysis.numbers import milliseconds
from mmrecast.analysis.tables import render_table
from mmrecast.apis.train import ready_runner
from mmrecast.utils.checkpoint import write_json
from mmrecast.utils.cli import told_in_one_line
from mmrecast.utils.config_file import read_config
from mmrecast.utils.modules import untouched
from mmrecast.utils.setup_env import register_all_modules

CONFIG = Path(__file__).resolve().parents[2] / 'configs/distill/recasting/recasting_resnet56_convnet_cifar10-short.py'
HOOKED, WHOLE = 'hooked', 'whole'
ADAM = dict(lr=1e-3)


@dataclass(frozen=True)
class StageCost:
    """What the steps of one recasting stage take.

    Args:
        stage (int): Its number, from 1.
        block (str): Path of the block that is recast.
        ms (dict[str, float]): Median of each one's step, in milliseconds.
        ratio (dict[str, list[float]]): Of each of the others, its time over ours: median, 10th and 90th percentile.
        cpu_ratio (dict[str, list[float]]): The same of the time on the processor, which other programs lengthen less.
        difference (dict[str, list[float]]): How far losses (relative) and weights (in units of their change) were at
            most from ours in the first rounds.
        mults (list[int]): Of the stage's step and of the whole one, per image.
        flop_share (float): The first over the second.
        time_share (float): Our step over the whole one.
        excess (float): ``time_share`` over ``flop_share``, less 1.
        handwritten_excess (float): The same of the handwritten loop.
        data_ms (float): The data path of a batch, in milliseconds.
        data_share (float): The data path over our step and the fetching of its batch.
        saved_mb (dict[str, float]): What is kept for the backward pass.
    """

    stage: int
    block: str
    ms: dict[str, float]
    ratio: dict[str, list[float]]
    cpu_ratio: dict[str, list[float]]
    difference: dict[str, list[float]]
    mults: list[int]
    flop_share: float
    time_share: float
    excess: float
    handwritten_excess: float
    data_ms: float
    data_share: float
    saved_mb: dict[str, float]


class StagesInTurns:
    """Turns in each of the chosen stages, with steps of its own form.

    Args:
        runner (Runner): The runner, whose loop is a `TurnsLoop`.
        chosen (Sequence[int]): Which recasting stages, from 1.
        preprocessing (dict): Config of the data preprocessor.
    """

    kind = 'recast'

    def __init__(self, runner: Runner, chosen: Sequence[int], preprocessing: dict) -> None:
        self.runner, self.chosen, self.preprocessing = runner, set(chosen), preprocessing
        self.costs: list[StageCost] = []
        self._turns: Turns | None = None

    def take(self, runner: Runner, data: dict, step: Callable[[], None]) -> None:
        """Let everybody take a step in a chosen stage; sum up behind its last one."""
        loop = runner.train_loop
        if loop.stage_index + 1 not in self.chosen:
            step()
            return
        if self._turns is None:
            self._turns = Turns(self.kind, self._others, differing=[WHOLE])
            print(f'{loop.position} …', file=sys.stderr, flush=True)
        self._turns.take(runner, data, step)
        if self._turns.rounds == loop.stages[loop.stage_index].iters:
            self.costs.append(self._summed_up(loop.stage_index))
            self._turns = None

    def _others(self) -> dict[str, Callable]:
        model, index = self.runner.bare_model, self.runner.train_loop.stage_index
        given = (model.teacher, model.student, self.preprocessing, ADAM, index, model.next_block != 'frozen')
        return {PLAIN: Recasting(*given), HOOKED: WholeWithHooks(*given), WHOLE: WholeStep(*given)}

    def _summed_up(self, index: int) -> StageCost:
        turns, model, loop = self._turns, self.runner.bare_model, self.runner.train_loop
        middle = {name: median(one[name] for one in turns.ms) for name in turns.ms[0]}
        tap = model.plan.tap(index)
        mults = [
            step_mults(model.teacher, model.student, tap, model.input_shape),
            whole_mults(model.teacher, model.student, model.input_shape),
        ]
        flops, fetch, prepare = mults[0] / mults[1], *data_path(self.runner, len(turns.ms))
        shares = {name: median(one[name] / one[WHOLE] for one in turns.ms) for name in (OURS, PLAIN)}
        return StageCost(
            index + 1, loop.stage.block,
            {name: round(ms, 3) for name, ms in middle.items()},
            *({name: spread([one[name] / one[OURS] for one in times]) for name in turns.others}
              for times in (turns.ms, turns.cpu_ms)),
            turns.differences, mults, round(flops, 4), round(shares[OURS], 4),
            *(round(shares[name] / flops - 1, 4) for name in (OURS, PLAIN)),
            round(fetch + prepare, 3), round((fetch + prepare) / (fetch + middle[OURS]), 4), self._saved(),
        )  # fmt: skip

    def _saved(self) -> dict[str, float]:
        model, loader = self.runner.bare_model, self.runner.train_dataloader
        batch = model.data_preprocessor(next(iter(loader)), True)
        x, samples = batch['inputs'], batch['data_samples']
        losses = {OURS: (model.student, lambda: model.loss(x, samples)['loss_block'])}
        for name, other in self._turns.others.items():
            losses[name] = other.student, partial(other.loss, x, samples['gt_label'])
        return {name: round(saved_bytes(*given) / 1e6, 3) for name, given in losses.items()}


def saved_bytes(network: nn.Module, loss: Callable[[], torch.Tensor]) -> int:
    """Return how many bytes a loss keeps for its backward pass, each storage once, the network's own left out."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*network.parameters(), *network.buffers())}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with untouched(network, training=None), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept_alive = loss()  # what it keeps lives as long: no address comes twice
    assert kept_alive.requires_grad
    return sum(kept.values())


def data_path(runner: Runner, batches: int) -> tuple[float, float]:
    """Return what fetching a batch takes, and what preparing it does, in milliseconds: medians."""
    fetch, prepare, iterator = [], [], iter(runner.train_dataloader)
    preprocessor = runner.bare_model.data_preprocessor
    for _ in range(batches):
        start = time.perf_counter()
        data = next(iterator)
        fetched = time.perf_counter()
        preprocessor(data, True)
        fetch.append((fetched - start) * 1000)
        prepare.append((time.perf_counter() - fetched) * 1000)
    return median(fetch), median(prepare)


def timed_config(
    path: Path | str, batch_size: int, iters: int, chosen: Sequence[int] | None, teacher_ckpt: str | None, **options
) -> tuple[Config, list[int]]:
    """Return a config with random images and ``iters`` of each stage that is timed, and the numbers of those stages.

    Args:
        path (Path | str): Config of a recasting.
        batch_size (int): Images per step.
        iters (int): Steps of a stage.
        chosen (Sequence[int], optional): Stages, from 1; None for all.
        teacher_ckpt (str, optional): The teacher's weights.
        **options: ``channels_last`` of the preprocessor, ``next_block`` and others of the model; None as in the config.

    Raises:
        ValueError: It is no recasting of a CIFAR ResNet, or has no such stage.
    """
    cfg = read_config(path)
    backbone = cfg.model.get('teacher', {}).get('backbone', {})
    known = str(backbone.get('type')).endswith('CifarResNet') and backbone.get('block', 'basic') == 'basic'
    if cfg.model.type != 'Recasting' or not known:
        raise ValueError(f'{path} recasts no CifarResNet of basic blocks, for which alone the step is written by hand')
    classes = cfg.model.teacher.head.num_classes
    cfg.model.teacher_ckpt = teacher_ckpt
    cfg.model.start = dict(type='closed_form', images=batch_size)
    channels_last = options.pop('channels_last', None)
    if channels_last is not None:
        cfg.data_preprocessor.channels_last = channels_last
    cfg.model.update({name: value for name, value in options.items() if value is not None})
    data = dict(shape=cfg.data_preprocessor.input_shape, num_classes=classes)
    cfg.train_dataloader.batch_size = batch_size
    cfg.train_dataloader.dataset = dict(type='ImagesToTime', num_images=batch_size * iters, **data)
    cfg.custom_hooks, cfg.log_level = [], 'WARNING'
    cfg.default_hooks.checkpoint = dict(type='StagedCheckpointHook', interval=None)
    for name in ('val', 'test'):
        for key in (f'{name}_dataloader', f'{name}_cfg', f'{name}_evaluator'):
            cfg[key] = None
    steady = dict(type='MultiStepLR', milestones=[10**9], by_epoch=False)
    same = dict(optim_wrapper=dict(type='OptimWrapper', optimizer=dict(ADAM, type='Adam')), param_scheduler=steady)
    blocks = [f'backbone.layer{n}.{i}' for n in (1, 2, 3) for i in range((backbone.depth - 2) // 6)]
    chosen = list(range(1, len(blocks) + 1)) if chosen is None else sorted(set(chosen))
    if not set(chosen) <= set(range(1, len(blocks) + 1)):
        raise ValueError(f'stages {", ".join(map(str, chosen))} are given, but there are those from 1 to {len(blocks)}')
    stages = [
        dict(kind='recast', blocks=block, iters=iters if number in chosen else 0, val=False, **same)
        for number, block in enumerate(blocks[: chosen[-1]], start=1)
    ]
    rest = blocks[chosen[-1] :]
    stages += [dict(kind='recast', blocks=rest, iters=0, val=False, **same)] if rest else []
    cfg.train_cfg = dict(type='TurnsLoop', stages=stages, probe_images=1)
    return cfg, chosen


def table(costs: Sequence[StageCost]) -> str:
    """Return one row per stage."""
    columns = ['stage', 'block', f'{OURS}, ms', PLAIN, HOOKED, 'FLOPs, %', 'time, %', 'excess, %', 'by hand, %',
               'data, %', 'saved, MB', f'{HOOKED}, MB']  # fmt: skip
    rows = [
        [
            cost.stage, cost.block, milliseconds(cost.ms[OURS]), f'{cost.ratio[PLAIN][0]:.3f}',
            f'{cost.ratio[HOOKED][0]:.3f}', f'{100 * cost.flop_share:.1f}', f'{100 * cost.time_share:.1f}',
            f'{100 * cost.excess:+.1f}', f'{100 * cost.handwritten_excess:+.1f}', f'{100 * cost.data_share:.2f}',
            f'{cost.saved_mb[OURS]:.1f}', f'{cost.saved_mb[HOOKED]:.1f}',
        ]
        for cost in costs
    ]  # fmt: skip
    return render_table(columns, rows, right=[columns[0], *columns[2:]])


def summary(costs: Sequence[StageCost]) -> dict[str, float]:
    """Return what is asked of all stages together."""
    return dict(
        handwritten_ratio_mean=round(mean(cost.ratio[PLAIN][0] for cost in costs), 4),
        handwritten_ratio_least=round(min(cost.ratio[PLAIN][0] for cost in costs), 4),
        hooked_ratio_mean=round(mean(cost.ratio[HOOKED][0] for cost in costs), 4),
        excess_most=round(max(cost.excess for cost in costs), 4),
        excess_over_handwritten_most=round(
            max((1 + cost.excess) / (1 + cost.handwritten_excess) - 1 for cost in costs), 4
        ),
        data_share_most=round(max(cost.data_share for cost in costs), 4),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', nargs='?', default=CONFIG, help='a recasting of a CIFAR ResNet (ResNet-56 → Conv)')
    parser.add_argument('--stages', nargs='+', type=int, help='numbers of the stages, from 1 (all of them)')
    parser.add_argument('--batch-size', type=int, default=128, help='images per step (128)')
    parser.add_argument('--rounds', type=int, default=7, help='measured rounds of each stage (7)')
    parser.add_argument(
        '--channels-last', action=argparse.BooleanOptionalAction, help='layout of images (the config’s)'
    )
    parser.add_argument('--next-block', choices=('frozen', 'teacher', 'fresh'), help='what block k+1 does (frozen)')
    parser.add_argument('--checkpointing', action='store_true', help='let our blocks keep their inputs alone')
    parser.add_argument('--teacher-ckpt', help='the teacher’s weights (random ones)')
    parser.add_argument('--out', type=Path, help='JSON file for the result')
    args = parser.parse_args()
    with told_in_one_line():
        check_counts(rounds=args.rounds, batch_size=args.batch_size)
        if args.out and not args.out.resolve().parent.is_dir():
            raise ValueError(f'--out {args.out} is no file in a folder that is there')
        register_all_modules()
        about = conditions() | dict(config=Path(args.config).stem, memory_kept=keep_memory())
        costs = measure(args)
        print(table(costs).rstrip())
        total = summary(costs)
        print(', '.join(f'{name} {value:g}' for name, value in total.items()))
        if args.out:
            settings = dict(batch_size=args.batch_size, rounds=args.rounds, checkpointing=args.checkpointing, seed=0)
            write_json(dict(**about, **settings, summary=total, stages=[asdict(cost) for cost in costs]), args.out)


def measure(args: argparse.Namespace) -> list[StageCost]:
    """Time the stages; the arguments are those of the command line."""
    options = dict(channels_last=args.channels_last, next_block=args.next_block, checkpointing=args.checkpointing)
    iters = args.rounds + CHECKED
    cfg, chosen = timed_config(args.config, args.batch_size, iters, args.stages, args.teacher_ckpt, **options)
    with tempfile.TemporaryDirectory() as folder:
        runner = ready_runner(cfg, work_dir=folder)
        runner.train_loop.turns = turns = StagesInTurns(runner, chosen, cfg.data_preprocessor)
        runner.train()
    return turns.costs


if __name__ == '__main__':
    main()
