"""Measure teacher-fed recasting: what its steps cost, and what is gained by blocks that train apart.

First, a training step (``train_step``) of some blocks where the student begins at block k, against one where it runs
its whole prefix, in turns on one batch. Then all blocks apart on so many processes of one thread each: the time until
they are joined, start-up of the processes left out, and how far the joined weights are from those of the first number.
Images are random unless ``--data-root`` names CIFAR-10.

    OMP_NUM_THREADS=1 python tools/benchmarks/parallel_blocks.py --out docs/results/parallel_blocks_cpu.json
"""

import argparse
import json
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from torch import Tensor

from mmrecast.algorithms import Recasting
from mmrecast.analysis.latency import check_counts
from mmrecast.analysis.numbers import milliseconds
from mmrecast.analysis.tables import render_table
from mmrecast.engine.hooks import machine
from mmrecast.registry import MODELS
from mmrecast.stages import Stage
from mmrecast.utils.checkpoint import load_file, write_json
from mmrecast.utils.cli import told_in_one_line
from mmrecast.utils.config_file import read_config
from mmrecast.utils.setup_env import register_all_modules
from mmrecast.utils.versions import made_with

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'configs/distill/recasting/recasting_resnet56_convnet_cifar10-parallel.py'
ADAM = dict(lr=1e-3)


def step_costs(cfg: Config, batch_size: int, rounds: int, count: int) -> list[dict]:
    """Time the steps of ``count`` blocks, evenly spaced, teacher-fed and student-fed.

    Returns:
        list[dict]: Per block its number ``k`` from 1, ``block``, the medians ``teacher_fed`` and ``student_fed`` in
        milliseconds, and ``ratio``, the median of the rounds' quotients.
    """
    algorithms = {fed: _algorithm(cfg, fed) for fed in ('teacher', 'student')}
    stages = algorithms['teacher'].expand([Stage('recast', iters=1)])
    shape = algorithms['teacher'].input_shape
    images = torch.randint(0, 256, (batch_size, *shape), dtype=torch.uint8)
    batch = dict(inputs=images, gt_label=torch.zeros(batch_size, dtype=torch.long))
    count = min(count, len(stages))
    costs = []
    for index in sorted({i * (len(stages) - 1) // max(count - 1, 1) for i in range(count)}):
        optimizers = {}
        for fed, algorithm in algorithms.items():
            algorithm.restore_structure(stages, index, started=False, structure={})
            algorithm.begin_stage(stages[index], [algorithm.data_preprocessor(batch)])
            trained = [p for p in algorithm.parameters() if p.requires_grad]
            optimizers[fed] = OptimWrapper(torch.optim.Adam(trained, **ADAM))
            algorithm.train()
        ms: dict[str, list[float]] = dict(teacher=[], student=[])
        for turn in range(rounds + 1):  # the first one warms up
            for fed in sorted(ms, reverse=turn % 2 == 1):
                start = time.perf_counter()
                algorithms[fed].train_step(dict(batch), optimizers[fed])
                spent = 1000 * (time.perf_counter() - start)
                if turn:
                    ms[fed].append(spent)
        ratio = median(a / b for a, b in zip(ms['teacher'], ms['student'], strict=True))
        costs.append(
            dict(
                k=index + 1, block=stages[index].block, teacher_fed=round(median(ms['teacher']), 3),
                student_fed=round(median(ms['student']), 3), ratio=round(ratio, 4),
            )
        )  # fmt: skip
    return costs


def _algorithm(cfg: Config, fed: str) -> Recasting:
    torch.manual_seed(0)
    model = dict(cfg.model, block_input=fed)
    model.setdefault('data_preprocessor', cfg.data_preprocessor)
    return MODELS.build(model)


def apart(cfg: Config, processes: Sequence[int], folder: Path) -> list[dict]:
    """Train the blocks of a config apart on several numbers of processes.

    Returns:
        list[dict]: Per number of ``processes`` the ``seconds`` until all are joined, ``speedup`` over the first one
        and ``difference``, the largest between a weight and that of the first.

    Raises:
        RuntimeError: A run fails.
    """
    path = folder / 'apart.py'
    cfg.dump(path)
    found, weights = [], []
    for number in processes:
        work_dir = folder / str(number)
        _run(path, work_dir, number)
        weights.append(load_file(work_dir / 'student.pth')['weights'])
        seconds = json.loads((work_dir / 'clock.json').read_text())['seconds']
        first = found[0]['seconds'] if found else seconds
        found.append(
            dict(
                processes=number, seconds=seconds, speedup=round(first / seconds, 3),
                difference=largest_difference(weights[0], weights[-1]),
            )
        )  # fmt: skip
    return found


def largest_difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Return max |a − b| over all weights of two students of one form."""
    assert one.keys() == other.keys()
    return max((one[name].double() - other[name].double()).abs().max().item() for name in one)


def timed_config(
    cfg: Config, iters: int, batch_size: int, start_images: int, seed: int, data_root: str | None
) -> Config:
    """Return a config of nothing but the blocks, ``iters`` each, with random images unless there are some."""
    cfg = Config(cfg.to_dict())
    cfg.model.block_input, cfg.model.start = 'teacher', dict(type='closed_form', images=start_images)
    cfg.train_cfg = dict(
        type='StagedLoop', stages=[dict(kind='recast', blocks='all', iters=iters, parallel=True)], probe_images=64
    )
    cfg.train_dataloader.batch_size, cfg.train_dataloader.drop_last = batch_size, False
    if data_root is None:
        shape, images = cfg.data_preprocessor.input_shape, max(batch_size * iters, start_images)
        cfg.train_dataloader.dataset = dict(type='ImagesToTime', num_images=images, shape=shape, num_classes=10)
    else:
        cfg.train_dataloader.dataset.data_root = data_root
    for part in ('val', 'test'):
        for key in (f'{part}_dataloader', f'{part}_cfg', f'{part}_evaluator'):
            cfg[key] = None
    cfg.custom_imports = dict(imports=['block_clock'], allow_failed_imports=False)
    cfg.custom_hooks = [dict(type='BlockClock'), dict(type='ResultHook', judge_teacher=False)]
    cfg.log_level, cfg.randomness = 'WARNING', dict(seed=seed)
    return cfg


def _run(path: Path, work_dir: Path, processes: int) -> None:
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    environment = os.environ | dict(PYTHON=sys.executable, PORT=str(port), OMP_NUM_THREADS='1')
    before = [environment['PYTHONPATH']] if environment.get('PYTHONPATH') else []
    environment['PYTHONPATH'] = os.pathsep.join([str(Path(__file__).parent), *before])
    command = ['bash', str(ROOT / 'tools/dist_train.sh'), str(path), str(processes), '--work-dir', str(work_dir)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f'the run on {processes} processes failed: {done.stderr.strip()[-2000:]}')


def tables(costs: Sequence[dict], runs: Sequence[dict]) -> str:
    """Return one row per block, and one per number of processes."""
    columns = ['k', 'block', 'teacher-fed, ms', 'student-fed, ms', 'ratio']
    rows = [
        [c['k'], c['block'], milliseconds(c['teacher_fed']), milliseconds(c['student_fed']), f'{c["ratio"]:.3f}']
        for c in costs
    ]
    steps = render_table(columns, rows, right=[c for c in columns if c != 'block'])
    columns = ['processes', 'seconds', 'speedup', 'largest difference']
    rows = [[r['processes'], f'{r["seconds"]:.1f}', f'{r["speedup"]:.2f}', f'{r["difference"]:.1e}'] for r in runs]
    return f'{steps.rstrip()}\n\n{render_table(columns, rows, right=columns).rstrip()}'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--config', default=str(CONFIG), help='a recasting that keeps all widths (ResNet-56 → Conv)')
    parser.add_argument('--processes', nargs='+', type=int, default=[1, 2], help='numbers of processes (1 2)')
    parser.add_argument('--iters', type=int, default=6, help='iterations of a block, apart (6)')
    parser.add_argument('--batch-size', type=int, default=64, help='images per step (64)')
    parser.add_argument('--start-images', type=int, default=128, help='images that a start reads (128)')
    parser.add_argument('--blocks', type=int, default=6, help='blocks whose steps are timed (6)')
    parser.add_argument('--rounds', type=int, default=3, help='measured rounds per block (3)')
    parser.add_argument('--seed', type=int, default=0, help='seed (0)')
    parser.add_argument('--data-root', help='CIFAR-10, in place of random images')
    parser.add_argument('--teacher-ckpt', help="the teacher's weights, in place of random ones")
    parser.add_argument('--out', type=Path, help='JSON file for the result')
    args = parser.parse_args()
    with told_in_one_line():
        counts = ('iters', 'batch_size', 'start_images', 'blocks', 'rounds')
        check_counts(processes=min(args.processes), **{name: getattr(args, name) for name in counts})
        if args.out and not args.out.resolve().parent.is_dir():
            raise ValueError(f'--out {args.out} is no file in a folder that is there')
        register_all_modules()
        cfg = read_config(args.config)
        cfg.model.teacher_ckpt = args.teacher_ckpt and os.path.abspath(args.teacher_ckpt)
        own = timed_config(cfg, args.iters, args.batch_size, args.start_images, args.seed, args.data_root)
        load = os.getloadavg()[0] if hasattr(os, 'getloadavg') else None
        print(f'steps, batch {args.batch_size}: {args.rounds} rounds …', file=sys.stderr, flush=True)
        costs = step_costs(own, args.batch_size, args.rounds, args.blocks)
        print(f'blocks apart, {args.iters} iterations each …', file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            runs = apart(own, args.processes, Path(folder))
        print(tables(costs, runs))
        if args.out:
            threads = f'OMP_NUM_THREADS={os.environ["OMP_NUM_THREADS"]} ' if 'OMP_NUM_THREADS' in os.environ else ''
            settings = {name: getattr(args, name) for name in (*counts, 'seed')}
            content = dict(
                command=f'{threads}python {shlex.join(sys.argv)}', machine=machine(), load_average=load,
                versions=made_with(), config=Path(args.config).name,
                **settings, images_seen=len(args.processes) * args.iters * args.batch_size, steps=costs, apart=runs,
            )  # fmt: skip
            write_json(content, args.out)


if __name__ == '__main__':
    main()
