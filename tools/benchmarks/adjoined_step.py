"""Time a step of an Adjoined Network against the plain step of its full network, in turns, on the same batches.

A step is forward passes, losses, backward pass and optimiser. What an adjoined step should cost is 1 + m / M times the
plain one, m and M being the multiplications of the small and the full network; the table shows how far it is from that.
The small network alone takes its turns, too: its step is what m / M would be if time went with multiplications. So does
the adjoined step with ``shared_prefix``.

    OMP_NUM_THREADS=1 python tools/benchmarks/adjoined_step.py --out docs/results/adjoined_step_cpu.json
"""

import argparse
import copy
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch
from conditions import keep_memory, spread
from torch import Tensor, nn

from mmrecast.algorithms import AdjoinedNetwork
from mmrecast.analysis.complexity import convention_for, count
from mmrecast.analysis.latency import check_counts
from mmrecast.analysis.numbers import milliseconds
from mmrecast.analysis.tables import render_table
from mmrecast.apis.networks import network_configs
from mmrecast.datasets import BatchPreprocessor
from mmrecast.engine.hooks import machine
from mmrecast.utils.checkpoint import write_json
from mmrecast.utils.cli import told_in_one_line
from mmrecast.utils.config_file import read_config
from mmrecast.utils.setup_env import register_all_modules
from mmrecast.utils.versions import made_with

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'distill' / 'adjoined'
# config, batch size
CASES = (
    ('adjoined_resnet20b_alpha4_cifar10-short', 128),
    ('adjoined_resnet20b_alpha2_cifar10-short', 128),
    ('adjoined_resnet18_alpha4_cifar10', 32),
    ('adjoined_resnet50_alpha4_cifar10', 32),
)
PLAIN, SMALL, ADJOINED, ONCE = 'plain', 'small alone', 'adjoined', 'shared prefix'
WARM_UP = 2  # rounds
ALLOWED = 0.15  # above what the multiplications say


@dataclass(frozen=True)
class AdjoinedCost:
    """What the steps of one config take.

    Args:
        config (str): Its name.
        batch_size (int): Images per step.
        rounds (int): Measured rounds.
        mults (list[int]): Of the full and of the small network, per image.
        ms (dict[str, float]): Median of each one's step, in milliseconds.
        ratio (list[float]): Adjoined over plain: median, 10th and 90th percentile of the rounds.
        cpu_ratio (list[float]): The same of the time on the processor, which other programs lengthen less.
        expected (float): 1 + m / M.
        excess (float): How much the median ratio is above that, as a share of it.
        of_small (float): What the small network adds over what its own step takes: (adjoined − plain) / small alone.
        once (list[float]): As ``ratio``, where ``shared_prefix`` runs stem and first stage once for both networks.
    """

    config: str
    batch_size: int
    rounds: int
    mults: list[int]
    ms: dict[str, float]
    ratio: list[float]
    cpu_ratio: list[float]
    expected: float
    excess: float
    of_small: float
    once: list[float]


def measure(name: str, batch_size: int, rounds: int) -> AdjoinedCost:
    """Time the steps of one config of an adjoined network; its network has random weights, the images are random."""
    cfg = read_config(CONFIGS / f'{name}.py')
    settings = dict(cfg.model, type=None, data_preprocessor=None)
    settings = {key: value for key, value in settings.items() if value is not None}
    shape = network_configs(CONFIGS / f'{name}.py').input_shape
    settings['data_preprocessor'] = BatchPreprocessor(input_shape=shape)
    torch.manual_seed(0)
    algorithm, sharing = (AdjoinedNetwork(**settings, shared_prefix=shared) for shared in (False, True))
    plain, small = (network.train() for network in (copy.deepcopy(algorithm.student.full), algorithm.student.extract()))
    mults = [count(network, shape, convention_for(shape)).mults for network in (plain, small)]
    cross_entropy = nn.CrossEntropyLoss()
    steps = {
        PLAIN: _step(plain, lambda x, y: cross_entropy(plain(x), y)),
        SMALL: _step(small, lambda x, y: cross_entropy(small(x), y)),
        ADJOINED: _step(algorithm.train(), lambda x, y: sum(algorithm.loss(x, dict(gt_label=y)).values())),
        ONCE: _step(sharing.train(), lambda x, y: sum(sharing.loss(x, dict(gt_label=y)).values())),
    }
    taken: list[dict[str, float]] = []
    on_processor: list[dict[str, float]] = []
    for turn in range(rounds + WARM_UP):
        images = torch.randn(batch_size, *shape).contiguous(memory_format=torch.channels_last)
        labels = torch.randint(0, 10, (batch_size,))
        names = list(steps)
        first = turn % len(names)
        order = names[first:] + names[:first]
        ms, cpu_ms = {}, {}
        for one in order:
            cpu, start = time.process_time(), time.perf_counter()
            steps[one](images, labels)
            ms[one], cpu_ms[one] = (time.perf_counter() - start) * 1000, (time.process_time() - cpu) * 1000
        if turn >= WARM_UP:
            taken.append(ms)
            on_processor.append(cpu_ms)
    ratio, cpu_ratio = (spread([ms[ADJOINED] / ms[PLAIN] for ms in times]) for times in (taken, on_processor))
    expected = 1 + mults[1] / mults[0]
    return AdjoinedCost(
        name, batch_size, rounds, mults,
        {one: round(median(ms[one] for ms in taken), 3) for one in steps},
        ratio, cpu_ratio, round(expected, 4), round(ratio[0] / expected - 1, 4),
        round(median((ms[ADJOINED] - ms[PLAIN]) / ms[SMALL] for ms in taken), 4),
        spread([ms[ONCE] / ms[PLAIN] for ms in taken]),
    )  # fmt: skip


def _step(module: nn.Module, loss_of: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], None]:
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)

    def step(images: Tensor, labels: Tensor) -> None:
        loss_of(images, labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def table(costs: Sequence[AdjoinedCost]) -> str:
    """Return one row per config."""
    columns = [
        'config',
        'batch',
        'plain, ms',
        'small alone, ms',
        'adjoined, ms',
        'ratio',
        '10–90 %',
        'on the CPU',
        '1 + m / M',
    ]
    columns += ['above', 'shared prefix']
    rows = [
        [
            cost.config, cost.batch_size, *(milliseconds(cost.ms[one]) for one in (PLAIN, SMALL, ADJOINED)),
            f'{cost.ratio[0]:.3f}', f'{cost.ratio[1]:.3f}–{cost.ratio[2]:.3f}', f'{cost.cpu_ratio[0]:.3f}',
            f'{cost.expected:.3f}', f'{cost.excess:+.1%}', f'{cost.once[0]:.3f}',
        ]
        for cost in costs
    ]  # fmt: skip
    return render_table(columns, rows, right=columns[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=15, help='measured rounds (15)')
    parser.add_argument('--configs', nargs='+', help='of configs/distill/adjoined, by name (four of them)')
    parser.add_argument('--batch-size', type=int, default=32, help='for --configs (32)')
    parser.add_argument('--out', type=Path, help='JSON file for the result')
    args = parser.parse_args()
    with told_in_one_line():
        check_counts(rounds=args.rounds, batch_size=args.batch_size)
        if args.out and not args.out.resolve().parent.is_dir():
            raise ValueError(f'--out {args.out} is no file in a folder that is there')
        register_all_modules()
        kept = keep_memory()
        load = os.getloadavg()[0] if hasattr(os, 'getloadavg') else None
        costs = []
        for name, size in [(name, args.batch_size) for name in args.configs] if args.configs else CASES:
            print(f'{name}, batch {size}: {args.rounds} rounds …', file=sys.stderr, flush=True)
            costs.append(measure(name, size, args.rounds))
        print(table(costs).rstrip())
        if args.out:
            threads = f'OMP_NUM_THREADS={os.environ["OMP_NUM_THREADS"]} ' if 'OMP_NUM_THREADS' in os.environ else ''
            about = dict(machine=machine(), versions=made_with())
            about |= dict(memory_kept=kept, load_average=load, allowed=ALLOWED)
            command = f'{threads}python {shlex.join(sys.argv)}'
            write_json(dict(command=command, **about, costs=[asdict(cost) for cost in costs]), args.out)


if __name__ == '__main__':
    main()
