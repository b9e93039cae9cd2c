"""Show the width groups of a network: which layers narrow together, which of them are adjoined, and why not the others.

CONFIG is a config, a name of mmpretrain's, torchvision:NAME or timm:NAME. What is adjoined is as its AdjoinedNetwork,
DifferentiableAdjoinedNetwork or NarrowStudent says, unless an option says otherwise. No weights are needed:

    python tools/list_widths.py configs/distill/adjoined/adjoined_resnet18_alpha4_cifar10.py
    python tools/list_widths.py torchvision:resnet50 --alpha 8 --exclude layer2
    python tools/list_widths.py torchvision:vgg16_bn --alpha 'features.*=2' classifier.0=4
"""

import argparse
import copy
from collections import Counter
from collections.abc import Mapping, Sequence

from torch import nn

import mmrecast  # noqa: F401  (mends come first)
from mmrecast.algorithms.narrow_student import narrow_by
from mmrecast.analysis.complexity import convention_for, count
from mmrecast.analysis.numbers import NOTHING, compared, shape_text, short
from mmrecast.analysis.tables import render_table
from mmrecast.apis.networks import constructor_of, network_configs
from mmrecast.models import build_network
from mmrecast.surgery.chain import Shape
from mmrecast.surgery.channel_graph import ChannelGraph, WidthGroup, size
from mmrecast.surgery.channels import trace_channels
from mmrecast.surgery.width_rules import RULES, adjoined_groups, check_divisor, divisors_for
from mmrecast.utils.cli import KeyValues, told_in_one_line
from mmrecast.utils.setup_env import register_all_modules
from mmrecast.utils.shapes import check_shape


def alpha_of(words: Sequence[str]) -> int | dict[str, int]:
    """Return the divisor(s) that the command line gives: ``['4']`` or ``['layer3=2', 'layer4.*=4']``.

    Raises:
        ValueError: They are no whole numbers, or a number stands beside patterns.
    """
    pairs = [word.rpartition('=') for word in words]
    if len(pairs) > 1 and not all(equals for _, equals, _ in pairs):
        raise ValueError(f'--alpha takes one number, or PATTERN=NUMBER …, got {" ".join(words)}')
    for pattern, _, number in pairs:
        if not number.removeprefix('-').isdecimal():
            where = f' of {pattern!r}' if pattern else ''
            raise ValueError(f'alpha{where} must be a whole number of at least 1, got {number!r}')
    divisors = {pattern: int(number) for pattern, _, number in pairs}
    return divisors.get('', divisors)


def reason(graph: ChannelGraph, group: WidthGroup, above: int, excluded: set[str] | None) -> str:
    """Return why a group keeps its width; see :func:`width_table`."""
    if group.fixed:
        return group.fixed
    if excluded is None:
        return 'alpha does not name it'
    if group.name in excluded:
        return 'excluded'
    for layer in (graph.layers[path] for path in group.layers):
        for does, channels in (('gives', size(layer.outputs)), ('reads', size(layer.inputs))):
            if layer.kind == 'conv' and not layer.depthwise and channels <= above:
                return f'{layer.path} {does} {channels}, not above {above}'
    return 'no convolution: name it in alpha'


def width_table(graph: ChannelGraph, becomes: Mapping[str, str], above: int, excluded: set[str] | None) -> str:
    """Return one row per width group.

    Args:
        graph (ChannelGraph): Of the network.
        becomes (dict[str, str]): By name of the groups that narrow, what becomes of their width.
        above (int): Number of channels up to which the rule keeps a width.
        excluded (set[str], optional): Groups that the rule would have chosen; None where alpha names the groups.
    """
    rows = []
    for group in graph.groups.values():
        shapes = Counter(_arrow(graph, path) for path in group.layers)
        rows.append([
            group.name,
            ', '.join(group.layers[1:]) or NOTHING,
            ', '.join(map(str, group.widths)),
            ', '.join(f'{number}× {shape}' if number > 1 else shape for shape, number in shapes.items()),
            becomes.get(group.name) or f'kept: {reason(graph, group, above, excluded)}',
        ])  # fmt: skip
    return render_table(['group', 'tied to it', 'width', 'in → out', 'becomes'], rows, right=('width',))


def _arrow(graph: ChannelGraph, path: str) -> str:
    layer = graph.layers[path]
    words = f'{size(layer.inputs)}→{size(layer.outputs)}'
    if layer.kind == 'linear':
        return f'{words} linear'
    return words if layer.groups == 1 else f'{words} depthwise' if layer.depthwise else f'{words}/{layer.groups}'


def choices(graph: ChannelGraph, divisors: Mapping[str, Sequence[int]]) -> dict[str, str]:
    """Return what becomes of each narrowed group's width(s): ``'32'``, in a search ``'64 | 32 | 16'``."""
    return {
        name: ', '.join(' | '.join(str(width // divisor) for divisor in own) for width in graph.groups[name].widths)
        for name, own in divisors.items()
    }


def totals(full: nn.Module, small: nn.Module, shape: Shape, name: str) -> str:
    """Return two lines: parameters and multiplications of the full and of the small network, called ``name``."""
    counted = [count(network, shape, convention_for(shape)) for network in (full, small)]
    lines = [f'{short(one.params)} params, {short(one.mults)} mults' for one in counted]
    measures = {measure: [getattr(one, measure) for one in counted] for measure in ('params', 'mults')}
    changes = [compared(*pair, f'fewer {measure}', f'more {measure}') for measure, pair in measures.items()]
    told = f' ({", ".join(filter(None, changes))})' if any(changes) else ''
    return f'full: {lines[0]}\n{name}: {lines[1]}{told}'


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'config', metavar='CONFIG', help="config file, mmpretrain's name of a model, torchvision:NAME, timm:NAME"
    )
    parser.add_argument('--alpha', nargs='+', metavar='N', help="divisor, or PATTERN=N … (the config's, else 4)")
    parser.add_argument('--above', type=int, metavar='N', help="channels up to which none narrows (config's, else 64)")
    parser.add_argument('--rule', choices=RULES, help="(the config's, else auto)")
    parser.add_argument('--exclude', nargs='*', metavar='PATTERN', help="modules that keep their width (the config's)")
    parser.add_argument(
        '--shape', nargs=3, type=int, metavar=('C', 'H', 'W'), help="input (the config's, else 3 224 224)"
    )
    parser.add_argument('--cfg-options', nargs='+', action=KeyValues, help='key=value, overriding the config')
    return parser.parse_args()


def main() -> None:
    args = parsed()
    with told_in_one_line():
        given = dict(alpha=args.alpha and alpha_of(args.alpha), above=args.above, rule=args.rule, exclude=args.exclude)
        configs = network_configs(args.config, args.cfg_options)
        shape = check_shape(args.shape or configs.input_shape)
        options = dict(configs.narrowing or {}) | {key: value for key, value in given.items() if value is not None}
        searched = configs.divisors if 'alpha' not in options else None
        alpha = options.pop('alpha', 4 if searched is None else max(searched))
        register_all_modules()
        full = build_network(constructor_of(configs.source or configs.teacher or configs.student)).eval()
        graph = trace_channels(full, shape)
        divisors = divisors_for(graph, alpha, **options)
        for name, divisor in ((name, divisor) for name in divisors for divisor in searched or ()):
            check_divisor(graph.groups[name], divisor, 'a divisor')
        becomes = choices(graph, {name: searched or (divisor,) for name, divisor in divisors.items()})
        small = copy.deepcopy(full)
        narrow_by(small, shape, alpha, **options)
        excluded = None
        if not isinstance(alpha, Mapping):
            excluded = set(adjoined_groups(graph, **(options | dict(exclude=())))) - set(becomes)
        print(
            f'{type(full).__name__} on {shape_text(shape)}: {len(graph.groups)} width groups, {len(becomes)} adjoined'
        )
        print(width_table(graph, becomes, options.get('above', 64), excluded))
        print(totals(full, small, shape, 'small' if searched is None else f'with the divisor {alpha} throughout'))


if __name__ == '__main__':
    main()
