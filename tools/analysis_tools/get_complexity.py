"""Count parameters, multiplications and activation load of a network: per block, in total, teacher beside student.

CONFIG is a config, a student.pth, the name of one of mmpretrain's models, torchvision:NAME or timm:NAME. Networks are
built without weights and run once. docs/complexity.md says what is counted.

    python tools/analysis_tools/get_complexity.py configs/distill/recasting/recasting_resnet56_convnet_cifar10.py
    python tools/analysis_tools/get_complexity.py torchvision:resnet50 --json
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from torch import nn

from mmrecast.analysis.complexity import (
    CONVENTIONS,
    Complexity,
    FvcoreTotals,
    Part,
    convention_for,
    count,
    fvcore_totals,
)
from mmrecast.analysis.numbers import compared, shape_text, short
from mmrecast.analysis.plan_table import MEASURES, arrow
from mmrecast.analysis.tables import render_table
from mmrecast.apis.networks import networks_of
from mmrecast.surgery.chain import Shape, find_chain
from mmrecast.surgery.plan import Plan
from mmrecast.utils.cli import told_in_one_line

LAYERS = dict(cifar='convolutions', imagenet='convolutions and fully connected layers')
"""dict: Whose weights and multiplications each convention counts."""
WORDS = (
    ('params', 'fewer', 'parameters'),
    ('mults', 'fewer', 'multiplications'),
    ('acts', 'less', 'activation load'),
)


@dataclass(frozen=True)
class Counted:
    """One network's counts.

    Args:
        role (str): 'teacher' or 'student'.
        type (str): Its class.
        total (Complexity): Under the convention.
        parts (tuple[Part]): The same, divided.
        fvcore (FvcoreTotals): As other tools count.
        known (bool): Whether the parts are blocks; else they are the network's child modules.
    """

    role: str
    type: str
    total: Complexity
    parts: tuple[Part, ...]
    fvcore: FvcoreTotals
    known: bool


def counted_network(
    role: str, network: nn.Module, plan: Plan | None, shape: Shape, convention: str, sources: Sequence[str]
) -> Counted:
    """Count one network; its blocks are the plan's, else those of its chain, else its child modules."""
    total = count(network, shape, convention)
    entries = plan.entries if plan else find_chain(network, shape, tuple(sources)).blocks
    blocks = [(entry.path, *entry.span) for entry in entries]
    parts = total.parts(blocks or [(name,) for name, _ in network.named_children()])
    return Counted(role, type(network).__name__, total, parts, fvcore_totals(network, shape), bool(blocks))


def as_json(counted: Counted) -> dict:
    """Return everything that was counted as dicts, lists, strings and whole numbers."""
    return dict(
        type=counted.type,
        totals=_measures(counted.total),
        fvcore=asdict(counted.fvcore),
        uncounted=list(counted.total.uncounted),
        blocks=[dict(name=part.name, kind=part.kind, **_measures(part.count)) for part in counted.parts],
        layers=[asdict(row) | dict(block=part.name) for part in counted.parts for row in part.count.rows],
    )


def _measures(complexity: Complexity) -> dict[str, int]:
    return {measure: getattr(complexity, measure) for measure in MEASURES}


def part_table(all_counted: Sequence[Counted]) -> str:
    """Return one row per part and the total; of two networks both numbers where they differ."""
    nothing = dict.fromkeys(MEASURES, 0)
    sides = [{part.name: _measures(part.count) for part in counted.parts} for counted in all_counted]
    names = sides[0] if len(sides) == 1 else _in_order(*(list(side) for side in sides))
    rows = [(name, [side.get(name, nothing) for side in sides]) for name in names]
    rows.append(('total', [_measures(counted.total) for counted in all_counted]))
    cells = [[name, *(arrow((side[0][m], side[-1][m])) for m in MEASURES)] for name, side in rows]
    return render_table(['block', *MEASURES], cells, right=MEASURES, last_apart=True).rstrip()


def _in_order(one: list[str], other: list[str]) -> list[str]:
    """Merge two lists of names that agree in their order."""
    merged, rest = [], list(other)
    for name in one:
        if name in rest:
            at = rest.index(name)
            merged += rest[:at]
            rest = rest[at + 1 :]
        merged.append(name)
    return merged + rest


def layer_table(counted: Counted) -> str:
    """Return one row per counted layer."""
    columns = ['layer', 'type', 'reads', 'writes', 'calls', *MEASURES]
    cells = [
        [
            row.path or counted.type, row.type, shape_text(row.in_shape), shape_text(row.out_shape), row.calls,
            *(short(getattr(row, m)) for m in MEASURES),
        ]
        for row in counted.total.rows
    ]  # fmt: skip
    return f'layers of the {counted.role}\n{render_table(columns, cells, right=("calls", *MEASURES)).rstrip()}'


def fvcore_lines(all_counted: Sequence[Counted]) -> list[str]:
    """Return a heading and one line per network."""
    lines = ["as fvcore counts (all parameters; multiply-adds, BatchNorm's too; elements written):"]
    for counted in all_counted:
        found = counted.fvcore
        operators = ', '.join(f'{name} {short(number)}' for name, number in found.flops_by_operator.items())
        sums = f'{short(found.params)} params, {short(found.flops)} flops ({operators})'
        lines.append(f'  {counted.role}: {sums}, {short(found.activations)} activations')
    return lines


def report(all_counted: Sequence[Counted], beside: bool, layers: bool) -> str:
    """Return the tables and remarks; ``beside`` puts two networks with the same blocks into one table."""
    groups = [all_counted] if beside else [[counted] for counted in all_counted]
    headings = [' → '.join(f'{counted.role} {counted.type}' for counted in group) for group in groups]
    paragraphs = [f'{heading}\n{part_table(group)}' for heading, group in zip(headings, groups, strict=True)]
    remarks = [
        f'{counted.role}: no block of a known class, so its child modules stand there; --source PATTERN … names blocks'
        for counted in all_counted
        if not counted.known
    ]
    remarks += [
        f'{counted.role}: not counted, though it multiplies: {", ".join(counted.total.uncounted)}'
        for counted in all_counted
        if counted.total.uncounted
    ]
    if len(all_counted) == 2:
        before, after = (_measures(counted.total) for counted in all_counted)
        changes = [compared(before[m], after[m], f'{less} {what}', f'more {what}') for m, less, what in WORDS]
        remarks.append(f'student: {", ".join(filter(None, changes))}')
    paragraphs.append('\n'.join([*remarks, *fvcore_lines(all_counted)]))
    paragraphs += [layer_table(counted) for counted in all_counted if layers]
    return '\n\n'.join(paragraphs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', metavar='CONFIG', help='config file, student.pth, name of a model, torchvision:NAME')
    parser.add_argument(
        '--shape', nargs=3, type=int, metavar=('C', 'H', 'W'), help="input (the config's, else 3 224 224)"
    )
    parser.add_argument('--convention', choices=CONVENTIONS, help='imagenet above 64 pixels, else cifar, if not given')
    parser.add_argument('--source', nargs='+', default=[], metavar='PATTERN', help='modules that are blocks, too')
    parser.add_argument('--layers', action='store_true', help='show every counted layer, too')
    parser.add_argument('--json', action='store_true', help='print JSON: totals, blocks and layers')
    args = parser.parse_args()
    with told_in_one_line():
        networks = networks_of(args.config, args.shape)
        shape = networks.input_shape
        convention = args.convention or convention_for(shape)
        both = (('teacher', networks.teacher, networks.plan), ('student', networks.student, networks.student_plan))
        all_counted = [
            counted_network(role, network, plan, shape, convention, args.source)
            for role, network, plan in both
            if network is not None
        ]
        if args.json:
            found = {counted.role: as_json(counted) for counted in all_counted}
            about = dict(name=networks.name, input_shape=list(shape), convention=convention)
            print(json.dumps(about | dict(networks=found), indent=1))
        else:
            print(f'{networks.name} on {shape_text(shape)}, convention {convention}: weights of {LAYERS[convention]}\n')
            print(report(all_counted, networks.same_blocks, args.layers))


if __name__ == '__main__':
    main()
