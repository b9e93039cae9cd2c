"""Measure every layer of a network alone at several widths: the table for a search with cost=dict(type='latency').

SOURCE is a config of AdjoinedNetwork or DifferentiableAdjoinedNetwork (which layers narrow, and by how much, is taken
from it), the name of one of mmpretrain's models, torchvision:NAME or timm:NAME. No weights are needed. What is left
out: BatchNorm, activations, pooling, sums, concatenations, and the memory traffic between layers; how much that is, is
told for the networks of one divisor throughout.

    python tools/analysis_tools/measure_width_latency.py configs/distill/dan/dan_resnet18_cifar10.py --out table.json
    python tools/analysis_tools/measure_width_latency.py torchvision:resnet18 --divisors 1 2 --out table.json
    python tools/train.py configs/distill/dan/dan_resnet18_cifar10.py --cfg-options \\
        model.cost.type=latency model.cost.table=table.json model.gamma=5e-3
"""

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import nn

from mmrecast.analysis.latency import check_counts
from mmrecast.analysis.latency_settings import DTYPES, LatencySettings
from mmrecast.analysis.numbers import milliseconds, shape_text, times
from mmrecast.analysis.tables import render_table
from mmrecast.analysis.width_latency import measure_widths
from mmrecast.apis.conditions import conditions, conditions_line
from mmrecast.apis.networks import IMAGE, constructor_of
from mmrecast.models import build_network
from mmrecast.surgery.channel_graph import ChannelGraph
from mmrecast.surgery.channels import trace_channels
from mmrecast.surgery.width_rules import adjoined_groups, divisors_for
from mmrecast.utils.checkpoint import write_json
from mmrecast.utils.cli import told_in_one_line
from mmrecast.utils.config_file import read_config
from mmrecast.utils.setup_env import register_all_modules

DIVISORS = (1, 2, 4)


def read_source(source: str, shape: Sequence[int] | None) -> tuple[str, nn.Module, tuple[int, ...], Mapping]:
    """Return name, untrained network, (C, H, W) and, of a config, the algorithm's arguments.

    Raises:
        ValueError: The config has no network that is adjoined, or the source is unknown.
        FileNotFoundError: There is no such config.
    """
    register_all_modules()
    if not source.endswith('.py'):
        network, name, model, found = source, source.partition(':')[2] or source, {}, IMAGE
    else:
        cfg = read_config(source)
        model, name = cfg.get('model') or {}, Path(source).stem
        if 'network' not in model:
            raise ValueError(
                f'{source} has no model with network=… (AdjoinedNetwork); a plain network is given by name'
            )
        network = model['network']
        preprocessor = model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
        found = preprocessor.get('input_shape') or IMAGE
    return name, build_network(constructor_of(network)).eval(), tuple(shape or found), model


def candidates(graph: ChannelGraph, model: Mapping, divisors: Sequence[int] | None) -> dict[str, list[int]]:
    """Return the divisors of every group that narrows: those given, else the config's, else 1, 2 and 4.

    Raises:
        ValueError: Nothing narrows, or a divisor of the config does not fit.
    """
    rule = {key: model[key] for key in ('above', 'rule', 'exclude') if key in model}
    alpha = model.get('alpha')
    if isinstance(alpha, Mapping):
        return {name: [*(divisors or (d,))] for name, d in divisors_for(graph, alpha, **rule).items()}
    numbers = divisors or model.get('divisors') or ([alpha] if alpha else DIVISORS)
    return {name: [*numbers] for name in adjoined_groups(graph, **rule)}


def whole_table(table: Mapping) -> str:
    """Return how well the sum over the layers tells the latency of the networks of one divisor throughout."""
    columns = ['divisor', 'sum of layers, ms', 'network, ms', 'sum / network']
    rows = [
        [one['divisor'], milliseconds(one['layers_ms']), milliseconds(one['network_ms']), times(one['ratio'])]
        for one in table['whole']
    ]
    return render_table(columns, rows, right=columns)


def checked(args: argparse.Namespace) -> LatencySettings:
    """Check everything that can be before a network is built.

    Raises:
        ValueError: A value is out of range, there is no such device, or the file could not be written.
    """
    check_counts(batch_size=args.batch_size, repeats=args.repeats, warmup=args.warmup)
    if Path(args.out).is_dir() or not Path(args.out).resolve().parent.is_dir():
        raise ValueError(f'--out {args.out} is no file in a folder that is there')
    return LatencySettings(args.device, args.dtype, args.channels_last, threads=args.threads)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', metavar='SOURCE', help='a config or the name of a network')
    parser.add_argument('--out', required=True, metavar='FILE', help='the JSON file to write')
    parser.add_argument('--divisors', nargs='+', type=int, help="of the widths (the config's, else 1 2 4)")
    parser.add_argument('--batch-size', type=int, default=1, help='images per pass (1)')
    parser.add_argument('--repeats', type=int, default=30, help='rounds, of which the medians are taken (30)')
    parser.add_argument('--warmup', type=int, default=5, help='rounds before that are not measured (5)')
    parser.add_argument('--shape', nargs=3, type=int, metavar=('C', 'H', 'W'), help="the config's, else 3 224 224")
    parser.add_argument('--device', default='cpu', help='cpu, cuda or cuda:N (cpu)')
    parser.add_argument('--dtype', default='float32', help=f'{", ".join(DTYPES)} (float32)')
    parser.add_argument('--threads', type=int, help="PyTorch's threads on the CPU (as many as there are cores)")
    parser.add_argument('--channels-last', action='store_true', help='lay images and weights out as (N, H, W, C)')
    args = parser.parse_args()
    with told_in_one_line():
        settings = checked(args)
        name, network, shape, model = read_source(args.source, args.shape)
        graph = trace_channels(network, shape)
        divisors = candidates(graph, model, args.divisors)
        where = conditions(settings)
        print(f'{name} on {shape_text(shape)}, batch {args.batch_size}: {len(divisors)} width groups narrow')
        print(conditions_line(where))
        print(f'{settings.text}; medians of {args.repeats} rounds in which all layers take turns', flush=True)
        counts = dict(batch_size=args.batch_size, repeats=args.repeats, warmup=args.warmup)
        table = measure_widths(network, graph, divisors, name, **counts, settings=settings)
        print(f'{whole_table(table).rstrip()}\n left out of the sum: {table["left_out"]}')
        write_json(table | dict(command=f'python {shlex.join(sys.argv)}', conditions=where), args.out)
        print(f'{table["measured"]} different layers, in {args.out}')


if __name__ == '__main__':
    main()
