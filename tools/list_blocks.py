"""Show the chain of a network: its blocks, what stands between them, and what a config's recipe makes of each.

CONFIG is a training config, a name of mmpretrain's, torchvision:NAME or timm:NAME. No weights are needed:

    python tools/list_blocks.py configs/distill/recasting/recasting_resnet56_convnet_cifar10.py
    python tools/list_blocks.py torchvision:resnet50
    python tools/list_blocks.py resnet18_8xb16_cifar10 --shape 3 32 32
"""

import argparse
import copy

import mmrecast  # noqa: F401  (mends come first)
from mmrecast.analysis.numbers import NOTHING, shape_text
from mmrecast.analysis.plan_table import format_plan, plan_rows
from mmrecast.analysis.tables import render_table
from mmrecast.apis.networks import constructor_of, network_configs
from mmrecast.models import build_network
from mmrecast.surgery.apply import check_plan
from mmrecast.surgery.chain import Chain, find_chain
from mmrecast.surgery.plan import make_plan, sources_of
from mmrecast.utils.cli import KeyValues, told_in_one_line
from mmrecast.utils.setup_env import register_all_modules
from mmrecast.utils.shapes import check_shape


def chain_table(chain: Chain, targets: dict[str, str]) -> str:
    """Return one row per block of the chain; ``targets`` says what becomes of each, empty without a recipe."""
    columns = ['', 'block', 'type', 'kind', 'input', 'output', 'stride', 'glue behind']
    rows = []
    for i, block in enumerate(chain.blocks):
        kind, stride = (block.source.kind, block.source.stride) if block.source else ('no source', NOTHING)
        shapes = shape_text(block.in_shape), shape_text(block.out_shape)
        span = f' … {block.span[-1].rpartition(".")[2]}' if block.span else ''
        rows.append([i, block.path + span, block.type, kind, *shapes, stride, ', '.join(block.glue) or NOTHING])
        if targets:
            rows[-1].append(targets[block.path])
    return render_table(columns + ['becomes'] * bool(targets), rows, right=('', 'stride'))


def remarks(chain: Chain) -> list[str]:
    """Return a line for everything that stands in the way of a recasting."""
    lines = [f'no source: {block.path}: {block.why}' for block in chain.blocks if block.why]
    lines += [f'no chain: {why}' for why in chain.breaks.values()]
    lines += [f'left out: {path} {why}' for path, why in chain.left_out.items()]
    if not chain.blocks:
        lines.append('no block of a known class: --source PATTERN … takes any modules that map one map to one')
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'config', metavar='CONFIG', help="config file, mmpretrain's name of a model, torchvision:NAME, timm:NAME"
    )
    parser.add_argument('--source', nargs='+', default=[], metavar='PATTERN', help='modules that are blocks, too')
    parser.add_argument(
        '--shape', nargs=3, type=int, metavar=('C', 'H', 'W'), help="input (the config's, else 3 224 224)"
    )
    parser.add_argument('--cfg-options', nargs='+', action=KeyValues, help='key=value, overriding the config')
    args = parser.parse_args()
    with told_in_one_line():
        configs = network_configs(args.config, args.cfg_options)
        recipe, shape = configs.recipe, check_shape(args.shape or configs.input_shape)
        register_all_modules()
        teacher = build_network(constructor_of(configs.source or configs.teacher or configs.student)).eval()
        chain = find_chain(teacher, shape, (*(sources_of(recipe) if recipe else ()), *args.source))
        rows = []
        if recipe:
            plan = make_plan(teacher, recipe, shape, chain)
            rows = plan_rows(plan.to_dict(), teacher, check_plan(copy.deepcopy(teacher), plan))
        found = f'{len(chain.blocks)} blocks, {chain.num_classes} classes'
        print(f'{type(teacher).__name__} on {shape_text(shape)}: {found}')
        if chain.blocks:
            print(f'before them: {", ".join(chain.stem) or NOTHING}\n')
            print(chain_table(chain, {row['path']: row['target'] for row in rows}))
        for line in remarks(chain):
            print(line)
        if rows:
            print('\n' + format_plan(rows))


if __name__ == '__main__':
    main()
