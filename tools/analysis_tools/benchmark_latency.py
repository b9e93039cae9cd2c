"""Measure how long teachers and students take for a batch, in turns in one process; no weights are needed.

SOURCE is a config, a student.pth, the name of one of mmpretrain's models, torchvision:NAME or timm:NAME. All networks
that share a teacher take turns; the ratio is the teacher's time over theirs. docs/latency.md says how to read it.

    python tools/analysis_tools/benchmark_latency.py configs/distill/recasting/recasting_resnet56_convnet_cifar10.py
    python tools/analysis_tools/benchmark_latency.py work_dirs/my_run/student.pth --blocks --fuse-bn --json latency.json
    python tools/analysis_tools/benchmark_latency.py torchvision:resnet50 --batch-sizes 1 64 --repeats 30 5 --threads 1
"""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from torch import nn

from mmrecast.analysis.activations import fill_statistics, subnormal_activations
from mmrecast.analysis.block_latency import BlockLatency, Part, compare_blocks
from mmrecast.analysis.latency import Latency, check_counts, compare_latency
from mmrecast.analysis.latency_settings import DTYPES, LatencySettings
from mmrecast.analysis.numbers import MINUS, milliseconds, shape_text, times
from mmrecast.analysis.students import network_name
from mmrecast.analysis.tables import render_table
from mmrecast.apis.conditions import conditions, conditions_line
from mmrecast.apis.networks import Networks, networks_of
from mmrecast.surgery.chain import ChainBlock, Shape, find_chain
from mmrecast.surgery.plan import Plan, PlanEntry
from mmrecast.surgery.student_file import Origin, is_weight_file
from mmrecast.utils.checkpoint import write_json
from mmrecast.utils.cli import told_in_one_line


@dataclass
class Group:
    """Networks that share a teacher, which is the first of them.

    Args:
        input_shape (tuple[int]): (C, H, W).
        networks (dict[str, nn.Module]): By name.
        plans (dict[str, Plan | None]): What makes each of them of the teacher by recasting.
        narrowed (list[str]): Those that are the teacher with fewer channels: they have its blocks.
        same (dict[str, list[str]]): By a network's name, the sources that have the same network.
    """

    input_shape: Shape
    networks: dict[str, nn.Module] = field(default_factory=dict)
    plans: dict[str, Plan | None] = field(default_factory=dict)
    narrowed: list[str] = field(default_factory=list)
    same: dict[str, list[str]] = field(default_factory=dict)

    @property
    def teacher(self) -> str:
        """str: Name of the network that the others are compared to."""
        return next(iter(self.networks))


def grouped(sources: Sequence[str], input_shape: Sequence[int] | None) -> list[Group]:
    """Build the networks of the sources; equal ones (same constructor, plan and widths) are kept once."""
    groups: dict[str, Group] = {}
    known: dict[str, str] = {}
    for source in sources:
        found = networks_of(source, input_shape)
        base = found.teacher_constructor or found.student_constructor
        key = json.dumps([found.input_shape, base], sort_keys=True)
        group = groups.setdefault(key, Group(found.input_shape))
        for name, network, origin in _members(found, base):
            identity = json.dumps([key, origin.constructor, origin.changes()], sort_keys=True)
            if identity in known:
                if name not in (known[identity], *group.same.get(known[identity], ())):
                    group.same.setdefault(known[identity], []).append(name)
                continue
            if name in group.networks:
                name = str(source)
            known[identity] = name
            trained = network is found.student and is_weight_file(source)
            group.networks[name] = network if trained else fill_statistics(network, found.input_shape)
            of_teacher = origin.constructor == base
            group.plans[name] = origin.plan if of_teacher else None
            if of_teacher and origin.widths is not None and origin.plan is None:
                group.narrowed.append(name)
    return list(groups.values())


def _members(found: Networks, base: dict) -> list[tuple[str, nn.Module, Origin]]:
    members = []
    if found.teacher is not None:
        members.append((network_name(base), found.teacher, Origin(base)))
    if found.student is not None:
        origin = Origin(found.student_constructor, found.student_plan, found.student_widths)
        members.append((found.name, found.student, origin))
    return members


def latency_table(latencies: dict[int, dict[str, Latency]]) -> str:
    """Return one row per batch size and network."""
    columns = ['batch', 'network', 'ms', '10–90 %', 'ms per image', 'ratio']
    rows = []
    for size, group in latencies.items():
        for name, one in group.items():
            folded = '' if one.bn_layers is None else f'{one.bn_folded} of {one.bn_layers}'
            spread = f'{milliseconds(one.p10_ms)}–{milliseconds(one.p90_ms)}'
            cells = [size, name, milliseconds(one.median_ms), spread, milliseconds(one.ms_per_image), times(one.ratio)]
            rows.append(cells + [folded] * (one.bn_layers is not None))
    columns += ['BN folded'] * (len(rows[0]) > len(columns))
    return render_table(columns, rows, right=('batch', 'ms', '10–90 %', 'ms per image', 'ratio', 'BN folded'))


def compared_blocks(group: Group) -> list[tuple[list[str], Sequence[PlanEntry | ChainBlock]]]:
    """Return which networks of a group have which blocks: teacher and student those of the plan, others their own.

    Raises:
        ValueError: A network without a plan has no blocks that are known.
    """
    planned = [([group.teacher, name], plan.entries) for name, plan in group.plans.items() if plan]
    narrowed = [([group.teacher, name], name) for name in group.narrowed]
    paired = {name for names, *_ in (*planned, *narrowed) for name in names}
    alone = [([name], name) for name in group.networks if name not in paired]
    for names, name in (*narrowed, *alone):
        blocks = find_chain(group.networks[name], group.input_shape).blocks
        if not blocks:
            raise ValueError(f'{name} has no block of a known class: --blocks needs a config whose recipe names them')
        planned.append((names, blocks))
    return planned


def block_rows(times: Sequence[BlockLatency], entries: Sequence[PlanEntry | ChainBlock]) -> list[dict]:
    """Return a row per part of the pass: ``part``, ``what`` it is and each network's milliseconds ``ms`` and spread.

    What lies between two blocks without a module (the marks themselves, mostly) is summed into one row.
    """
    rows = [_row('stem', '', [one.stem for one in times])]
    rest: list[list[float]] = []
    for entry in entries:
        rows.append(_row(entry.path, _what(entry), [one.blocks[entry.path] for one in times]))
        if entry is entries[-1]:
            continue
        gaps = [one.gaps[entry.path] for one in times]
        if entry.glue:
            rows.append(_row(f'behind {entry.path}', 'glue', gaps))
        else:
            rest.append([gap.median_ms for gap in gaps])
    if rest:
        rows.append(dict(part='between blocks', what='marks', ms=[sum(side) for side in zip(*rest, strict=True)]))
    rows.append(_row('head', '', [one.head for one in times]))
    rows.append(_row('whole pass', 'with marks', [one.total for one in times]))
    rows.append(_row('whole pass', 'without', [one.unmarked for one in times]))
    return rows


def _row(part: str, what: str, parts: Sequence[Part]) -> dict:
    p10, p90 = ([getattr(one, key) for one in parts] for key in ('p10_ms', 'p90_ms'))
    return dict(part=part, what=what, ms=[one.median_ms for one in parts], p10_ms=p10, p90_ms=p90)


def _what(entry: PlanEntry | ChainBlock) -> str:
    kind = entry.source.kind if entry.source else entry.type
    if isinstance(entry, ChainBlock) or entry.action == 'keep':
        return kind
    return f'{kind} → {entry.target["type"]}' if entry.target else f'{kind}, rebuilt'


def block_table(rows: Sequence[dict]) -> str:
    """Return the rows as a table; of two networks with what the second one saves."""
    two = len(rows[0]['ms']) == 2
    numbers = ['before, ms', 'after, ms', 'saved, ms', 'ratio'] if two else ['ms']
    cells = []
    for row in rows[:-1]:
        cell = [row['part'], row['what'], *(milliseconds(ms) for ms in row['ms'])]
        if two:
            before, after = row['ms']
            saved = before - after
            cell += [
                f'{MINUS if saved < 0 else ""}{milliseconds(abs(saved))}',
                times(before / after if after else None),
            ]
        cells.append(cell)
    without = ' → '.join(milliseconds(ms) for ms in rows[-1]['ms'])
    table = render_table(['part', '', *numbers], cells, right=numbers, last_apart=True)
    return f'{table.rstrip()}\n whole pass without marks: {without} ms'


def measure(group: Group, shared: Sequence, args: argparse.Namespace, settings: LatencySettings) -> dict:
    """Measure a group, print its tables and return its figures; ``shared`` comes from :func:`compared_blocks`."""
    print(f'\n{group.teacher} on {shape_text(group.input_shape)}')
    for name, sources in group.same.items():
        print(f'the same network as {name}: {", ".join(sources)}')
    if settings.device == 'cpu':
        for name, network in group.networks.items():
            found = subnormal_activations(network, group.input_shape)
            if found:
                print(f'{name}: {found} activations are subnormal numbers, which slow a CPU')
    latencies: dict[int, dict[str, Latency]] = {}
    blocks = []
    for size, repeats in zip(args.batch_sizes, args.repeats, strict=True):
        print(f'batch {size}: {len(group.networks)} network(s), {repeats} rounds …', file=sys.stderr, flush=True)
        options = dict(batch_size=size, repeats=repeats, warmup=args.warmup)
        latencies[size] = compare_latency(group.networks, group.input_shape, **options, **asdict(settings))
    print('\n' + latency_table(latencies).rstrip())
    for names, entries in shared:
        chosen = {name: group.networks[name] for name in names}
        spans = [(entry.path, entry.output) for entry in entries]
        for size, repeats in zip(args.batch_sizes, args.repeats, strict=True):
            options = dict(batch_size=size, repeats=repeats, warmup=args.warmup, settings=settings)
            rows = block_rows(list(compare_blocks(chosen, spans, group.input_shape, **options).values()), entries)
            print(f'\nblocks of {" and ".join(names)} at batch {size}\n{block_table(rows)}')
            blocks.append(dict(networks=names, batch_size=size, parts=rows))
    return dict(
        teacher=group.teacher, input_shape=list(group.input_shape), same=group.same, blocks=blocks,
        latency={size: {name: asdict(one) for name, one in row.items()} for size, row in latencies.items()},
    )  # fmt: skip


def checked(args: argparse.Namespace) -> LatencySettings:
    """Check everything that can be before a network is built.

    Raises:
        ValueError: A value is out of range, there is no such device, or the JSON file could not be written.
    """
    settings = LatencySettings(args.device, args.dtype, args.channels_last, args.compile, args.fuse_bn, args.threads)
    if args.blocks and args.compile:
        raise ValueError('--blocks and --compile exclude each other: a compiled network calls no modules')
    if len(args.repeats) == 1:
        args.repeats = args.repeats * len(args.batch_sizes)
    if len(args.repeats) != len(args.batch_sizes):
        raise ValueError(
            f'{len(args.repeats)} --repeats for {len(args.batch_sizes)} --batch-sizes: give one, or one each'
        )
    for size, repeats in zip(args.batch_sizes, args.repeats, strict=True):
        check_counts(batch_size=size, repeats=repeats, warmup=args.warmup)
    if args.json and (Path(args.json).is_dir() or not Path(args.json).resolve().parent.is_dir()):
        raise ValueError(f'--json {args.json} is no file in a folder that is there')
    return settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('sources', nargs='+', metavar='SOURCE', help='what to build the networks of')
    parser.add_argument('--batch-sizes', nargs='+', type=int, default=[1, 64], help='images per pass (1 64)')
    parser.add_argument('--repeats', nargs='+', type=int, default=[30], help='rounds, for all or for each size (30)')
    parser.add_argument('--warmup', type=int, default=5, help='rounds before that are not measured (5)')
    parser.add_argument('--shape', nargs=3, type=int, metavar=('C', 'H', 'W'), help="the source's, else 3 224 224")
    parser.add_argument('--device', default='cpu', help='cpu, cuda or cuda:N (cpu)')
    parser.add_argument('--dtype', default='float32', help=f'{", ".join(DTYPES)} (float32)')
    parser.add_argument('--threads', type=int, help="PyTorch's threads on the CPU (as many as there are cores)")
    parser.add_argument('--channels-last', action='store_true', help='lay images and weights out as (N, H, W, C)')
    parser.add_argument('--compile', action='store_true', help='run the networks through torch.compile')
    parser.add_argument('--fuse-bn', action='store_true', help='fold BN into convolutions where that is exact')
    parser.add_argument('--blocks', action='store_true', help='time every block, too')
    parser.add_argument('--json', metavar='FILE', help='write every figure there')
    args = parser.parse_args()
    with told_in_one_line():
        settings = checked(args)
        groups = grouped(args.sources, args.shape)
        blocks = [compared_blocks(group) if args.blocks else [] for group in groups]
        where = conditions(settings)
        print(conditions_line(where))
        print(f'{settings.text}; medians over rounds in which all networks take turns')
        result = dict(
            command=f'python {shlex.join(sys.argv)}', conditions=where, settings=asdict(settings), warmup=args.warmup
        )
        result['groups'] = [measure(*pair, args, settings) for pair in zip(groups, blocks, strict=True)]
        if args.json:
            write_json(result, args.json)


if __name__ == '__main__':
    main()
