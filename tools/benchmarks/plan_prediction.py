"""Measure how well the sum over blocks predicts a network's latency, and how planning time grows.

ResNets for 32x32 images, untrained: what blocks take does not depend on their weights. The line is fitted on eight
random plans, as planning does, and tried on others. Then, for every depth and set of widths: seconds for the
candidates, their costs, the calibration and the choice for one budget, and for the prices of three blocks (random
images).

    OMP_NUM_THREADS=1 python tools/benchmarks/plan_prediction.py --out docs/results/plan_prediction_cpu.json
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from conditions import conditions
from figures import pair_of_axes
from torch import nn

from mmrecast.analysis.latency import check_counts
from mmrecast.analysis.tables import render_table
from mmrecast.models import build_network
from mmrecast.planning.candidates import RATIOS, candidates_of
from mmrecast.planning.choice import choose
from mmrecast.planning.costs import costs_of, options_of, random_choices, time_choices
from mmrecast.planning.latencies import CALIBRATION, fitted_line
from mmrecast.planning.prices import PriceList
from mmrecast.surgery.chain import find_chain
from mmrecast.utils.checkpoint import write_json
from mmrecast.utils.cli import told_in_one_line
from mmrecast.utils.config_file import read_config
from mmrecast.utils.setup_env import register_all_modules

CONFIG = Path(__file__).parents[2] / 'configs/distill/recasting/recasting_resnet56_convnet_cifar10-fast.py'
SHAPE, HALF = (3, 32, 32), 0.5


def network_of(depth: int) -> nn.Module:
    """Return an untrained classifier."""
    torch.manual_seed(0)
    teacher = read_config(CONFIG).model.teacher
    return build_network(teacher | dict(backbone=teacher.backbone | dict(depth=depth))).eval()


class Seconds(dict):
    """How long each step took, by name."""

    def of(self, name: str, step: Callable[[], Any]) -> Any:
        """Take a step and note its seconds."""
        begin = time.perf_counter()
        result = step()
        self[name] = round(time.perf_counter() - begin, 3)
        return result


def planned(depth: int, ratios: Sequence[float], priced: int, **measuring) -> tuple[dict, tuple]:
    """Plan for a network up to a choice; return what took how long, and (network, chain, options, line).

    Args:
        depth (int): Of the ResNet.
        ratios (Sequence[float]): Widths of the candidates.
        priced (int): Random images on which three blocks' candidates are priced; 0 for none.
        **measuring: As `costs_of`.
    """
    seconds, network = Seconds(), network_of(depth)
    chain = find_chain(network, SHAPE)
    candidates = seconds.of('candidates', lambda: candidates_of(network, SHAPE, ratios=ratios))
    costs = seconds.of('costs', lambda: costs_of(network, chain, candidates, **measuring))
    generator = torch.Generator().manual_seed(0)
    drawn = [[torch.rand(1, generator=generator).item() for _ in own] for own in candidates]
    options = options_of(candidates, costs, drawn)
    probes = random_choices(options, 'ms', CALIBRATION)
    line = seconds.of('calibration', lambda: fitted_line(network, chain, probes, 1.0, **measuring))
    budget = HALF * sum(max(o.costs['ms'] for o in own) for own in options)
    seconds.of('choice', lambda: choose(options, dict(ms=budget)))
    count = sum(map(len, candidates))
    row = dict(depth=depth, blocks=len(chain.blocks), ratios=list(ratios), candidates=count, seconds=seconds)
    if priced:
        images = torch.randn(2 * priced, *SHAPE, generator=generator)
        prices = PriceList(network, chain, [images[:priced]], [images[priced:]])
        some = sorted({0, len(chain.blocks) // 2, len(chain.blocks) - 1})
        own = [seconds.of(f'prices of {chain.paths[i]}', lambda i=i: prices.of(i, candidates[i])) for i in some]
        row |= dict(priced=[sum(price is not None for price in one) for one in own])
    return row, (network, chain, options, line)


def predictions(made: tuple, number: int, measuring: dict) -> list[dict]:
    """Return predicted and measured speed-up of random plans that the line was not fitted on.

    ``off`` is by how much the latency that follows from the prediction, beside the same teacher, is too large.
    """
    network, chain, options, line = made
    known = [choice.positions for choice in random_choices(options, 'ms', CALIBRATION)]
    choices = [c for c in random_choices(options, 'ms', number + CALIBRATION, seed=1) if c.positions not in known]
    choices = choices[:number]
    times = time_choices(network, chain, choices, **measuring)
    found = []
    for choice, (ms, speedup) in zip(choices, times, strict=True):
        predicted = 1 / line.whole(choice.cost('ms'))
        found.append(dict(predicted_speedup=predicted, speedup=speedup, ms=ms, off=speedup / predicted - 1))
    return found


def plot(plans: Sequence[dict], growth: Sequence[dict], path: Path) -> None:
    """Draw predicted against measured latency, and planning time against the blocks."""
    with pair_of_axes(path) as (left, right):
        measured, predicted = ([plan[key] for plan in plans] for key in ('speedup', 'predicted_speedup'))
        ends = min(measured + predicted), max(measured + predicted)
        left.plot(ends, ends, color='0.7', label='equal')
        left.plot(measured, predicted, 'o', label='random plans')
        left.set(xlabel='measured speed-up', ylabel='predicted speed-up')
        for ratios in sorted({tuple(row['ratios']) for row in growth}):
            own = sorted((row for row in growth if tuple(row['ratios']) == ratios), key=lambda row: row['blocks'])
            right.plot(
                [row['blocks'] for row in own], [sum(_steps(row)) for row in own], 'o-', label=f'{len(ratios)} widths'
            )
        right.set(xlabel='blocks', ylabel='seconds, without prices')
        for axes in (left, right):
            axes.set(xlim=(0, None), ylim=(0, None))
            axes.legend()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--depths', type=int, nargs='+', default=[20, 56, 110], help='of the ResNets (20 56 110)')
    parser.add_argument('--plans', type=int, default=30, help='random plans of the second depth that are measured (30)')
    parser.add_argument('--batch-size', type=int, default=1, help='images per pass (1)')
    parser.add_argument('--repeats', type=int, default=20, help='rounds, of which medians are taken (20)')
    parser.add_argument('--priced', type=int, default=64, help='images to price three blocks on (64; 0: not)')
    parser.add_argument('--out', type=Path, help='JSON file for the result')
    parser.add_argument('--plot', type=Path, help='figure (.svg, .png)')
    args = parser.parse_args()
    with told_in_one_line():
        check_counts(plans=args.plans, batch_size=args.batch_size, repeats=args.repeats)
        if args.priced < 0:
            raise ValueError(f'--priced must be at least 0, got {args.priced}')
        register_all_modules()
        about = conditions()
        measuring = dict(batch_size=args.batch_size, repeats=args.repeats)
        growth, plans = [], []
        for depth in args.depths:
            for ratios in ((1.0,), RATIOS):
                row, made = planned(depth, ratios, args.priced if ratios == RATIOS else 0, **measuring)
                growth.append(row)
                if depth == args.depths[min(1, len(args.depths) - 1)] and ratios == RATIOS:
                    plans = predictions(made, args.plans, measuring)
    off = sorted(abs(plan['off']) for plan in plans)
    rows = [
        [row['depth'], row['blocks'], len(row['ratios']), row['candidates'], *(f'{s:.2f}' for s in _steps(row))]
        for row in growth
    ]
    columns = ['depth', 'blocks', 'widths', 'candidates', 'candidates, s', 'costs, s', 'calibration, s', 'choice, s']
    print(render_table(columns, rows, right=columns).rstrip())
    print(f'{len(plans)} random plans: predicted within {off[-1]:.1%}, median {median(off):.1%}')
    if args.plot:
        plot(plans, growth, args.plot)
    if args.out:
        write_json(about | dict(largest_off=off[-1], median_off=median(off), plans=plans, growth=growth), args.out)


def _steps(row: dict) -> list[float]:
    return [row['seconds'][name] for name in ('candidates', 'costs', 'calibration', 'choice')]


if __name__ == '__main__':
    main()
