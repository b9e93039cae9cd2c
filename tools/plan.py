"""Say the latency you need, get the recipe: choose for every block what it is to become, and write a config.

CONFIG is a Recasting config: its teacher, data and schedule are taken, its recipe is replaced. What every candidate
takes is measured on the device; what it loses is told by the residual of its closed-form start, without training, and
with ``--train-images`` by training what is chosen alone, until only such candidates are. All of it is kept in a folder,
so that another budget costs seconds, and what was trained starts the recasting.

    python tools/plan.py configs/distill/recasting/recasting_resnet56_convnet_cifar10-fast.py --data-root DIR \\
        --cfg-options model.teacher_ckpt=resnet56.pth --target-speedup 2 --out my_plan.py
    python tools/train.py my_plan.py --data-root DIR
"""

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mmengine.logging import MMLogger

from mmrecast.analysis.latency_settings import DTYPES, LatencySettings
from mmrecast.analysis.tables import render_table
from mmrecast.apis.conditions import conditions, conditions_line
from mmrecast.planning.assembled import assembled, spread_over, top1
from mmrecast.planning.budgets import check_budgets
from mmrecast.planning.candidates import RATIOS
from mmrecast.planning.figure import draw_frontier
from mmrecast.planning.from_config import check_recasting, labelled_images, planned_config, planner_for
from mmrecast.planning.planner import Planned, Planner
from mmrecast.utils.checkpoint import write_json, write_text
from mmrecast.utils.cli import KeyValues, told_in_one_line
from mmrecast.utils.config_file import read_config
from mmrecast.utils.setup_env import register_all_modules


def table(planner: Planner, plan: Planned) -> str:
    """Return one line per block: what it becomes, what that takes and what it loses."""
    rows = []
    for block, option in zip(planner.chain.blocks, plan.choice.options, strict=True):
        ms = f'{option.costs["ms"]:.3f}'
        rows.append([block.path, option.what.name, ms, f'{option.costs["params"]:,.0f}', f'{option.price:.4f}'])
    columns = ['block', 'becomes', 'ms', 'params', 'predicted loss']
    return render_table(columns, rows, right=columns[2:])


def record(planner: Planner, plan: Planned, settings: LatencySettings) -> dict:
    """Return what there is to know of a plan, as JSON takes it."""
    return dict(
        command=f'python {shlex.join(sys.argv)}', conditions=conditions(settings), teacher_ms=planner.teacher_ms,
        line=asdict(planner.line),
        priced=planner.prices.computed,
        plan=dict(
            recipe=plan.recipe, predicted_ms=plan.predicted_ms, measured_ms=plan.measured_ms, speedup=plan.speedup,
            params=plan.params, mults=plan.mults, acts=plan.acts, over=dict(plan.over), predicted_loss=plan.price,
            loss=plan.loss,
        ),
        blocks=[
            dict(block=o.what.path, becomes=o.what.name, price=o.price, **o.costs)
            | dict(trained=asdict(found) if (found := planner.trained_alone(o)) else None)
            for o in plan.choice.options
        ],
    )  # fmt: skip


def verdict(plan: Planned) -> list[str]:
    """Return a line per budget that the plan exceeds."""
    whose = dict(ms='latency', params='weights', mults='multiplications', acts='activation load')
    return [f'OVER BUDGET: {times - 1:.1%} too much {whose[kind]}' for kind, times in plan.over.items()]


def accuracy(planner: Planner, plan: Planned, labelled: Sequence, asked: float) -> tuple[dict, str]:
    """Return a plan's accuracy before any training and the teacher's, and a line on them."""
    found = dict(top1=top1(planner.put_together(plan.recipe), labelled), teacher_top1=top1(planner.teacher, labelled))
    under = f'UNDER ACCURACY by {asked - found["top1"]:.2f} points, which training must bring: '
    told = (
        f'top-1 {found["top1"]:.2f} % by closed forms alone, {asked:g} asked for, teacher {found["teacher_top1"]:.2f}'
    )
    return found, f'{under if found["top1"] < asked else ""}{told}'


def checked(args: argparse.Namespace) -> LatencySettings:
    """Check what can be before a network is built.

    Raises:
        ValueError: A number is out of range, there is no such device, or a file could not be written.
    """
    if min(args.images, args.test_images, args.ranked, args.jobs) < 1 or args.points < 2 or args.train_images < 0:
        raise ValueError(
            '--images, --test-images, --ranked and --jobs must be at least 1, --points 2 and --train-images 0'
        )
    if args.real < 0 or (args.min_top1 is not None and not 0 < args.min_top1 <= 100):
        raise ValueError('--real must be at least 0, --min-top1 above 0 and at most 100')
    for name in ('beside', 'real'):
        if getattr(args, name) not in (None, 0) and args.frontier is None:
            raise ValueError(f'--{name} draws on the figure of --frontier: give that, too')
    if args.out.suffix != '.py':
        raise ValueError(f'--out {args.out} must end in .py: it is a config')
    for speedup in args.target_speedup or [None]:
        check_budgets(
            speedup=speedup, latency_ms=args.target_latency_ms, max_params=args.max_params, max_mults=args.max_mults,
            max_acts=args.max_acts,
        )  # fmt: skip
    return LatencySettings(args.device, args.dtype, args.channels_last, threads=args.threads)


def frontier(planner: Planner, args: argparse.Namespace, recipes: dict[str, list], labelled: Sequence) -> dict:
    """Draw the frontier, and what stands beside it; return all that is drawn.

    Args:
        planner (Planner): Whose plans it is of.
        args (argparse.Namespace): The command line.
        recipes (dict): Recipes beside it, by the file of their config.
        labelled (Sequence): Images and classes for the accuracy of ``args.real`` plans and of what is beside.
    """
    points = planner.frontier(args.points)
    beside = {Path(file).stem: planner.choice_of(recipe) for file, recipe in recipes.items()}
    weighed = {name: planner.weighed(choice) for name, choice in beside.items()}
    chosen = (dict(plans=spread_over(points, args.real)) | {n: [c] for n, c in beside.items()}) if args.real else {}
    real = {name: [assembled(planner, choice, labelled) for choice in own] for name, own in chosen.items()}
    teacher = top1(planner.teacher, labelled) if real else None
    draw_frontier(points, planner.teacher_ms, args.frontier, weighed, real, teacher)
    print(f'{args.frontier} written: predicted loss at {len(points)} latencies')
    for name, (ms, loss) in weighed.items():
        print(f'{name}: {ms:.3g} ms, predicted loss {loss:.4f}')
    for name, found in real.items():
        for one in found:
            print(f'{name}, put together: {one.ms:.3g} ms, loss {one.loss:.4f}, top-1 {one.top1:.2f} % (no training)')
    drawn: dict = dict(frontier=[(ms, loss) for ms, loss, _ in points], beside=weighed)
    if real:
        drawn |= dict(real={name: [asdict(one) for one in own] for name, own in real.items()}, teacher_top1=teacher)
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config of a Recasting')
    budget = parser.add_argument_group('budgets, of which all that are given hold')
    budget.add_argument(
        '--target-speedup',
        type=float,
        nargs='+',
        metavar='X',
        help='times as fast as the teacher; several: as many plans',
    )
    budget.add_argument('--target-latency-ms', type=float, metavar='MS', help='milliseconds of a batch')
    budget.add_argument('--max-params', type=int, metavar='N', help='weights, as get_complexity.py counts them')
    budget.add_argument('--max-mults', type=int, metavar='N', help='multiplications of an image')
    budget.add_argument('--max-acts', type=int, metavar='N', help='activation load of an image: elements read')
    parser.add_argument(
        '--min-top1', type=float, metavar='PERCENT', help='put the plan together, say whether it has that accuracy'
    )
    parser.add_argument('--frontier', type=Path, metavar='FIGURE', help='draw what is lost against the latency')
    parser.add_argument(
        '--beside', nargs='*', metavar='CONFIG', help="draw CONFIG's own recipe there, too, and those of others"
    )
    parser.add_argument(
        '--real', type=int, default=0, metavar='K', help='put K of its plans together, and those beside; draw these (0)'
    )
    parser.add_argument('--points', type=int, default=10, help='budgets of the frontier (10)')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/plan.py'), help='config to write (%(default)s)')
    parser.add_argument('--ranked', type=int, default=1, metavar='K', help='plans put together and compared (1)')
    parser.add_argument(
        '--targets',
        nargs='+',
        metavar='TYPE',
        help="blocks to try (convolutions and so on, and those of CONFIG's recipe)",
    )
    parser.add_argument('--ratios', type=float, nargs='+', default=RATIOS, help='widths to try (1 0.75 0.5 0.25)')
    parser.add_argument('--images', type=int, default=256, help='for the closed forms, and as many to judge by (256)')
    parser.add_argument('--train-images', type=int, default=0, metavar='N', help='train what is chosen, on so many (0)')
    parser.add_argument('--test-images', type=int, default=1000, help='for accuracies (1000)')
    parser.add_argument('--jobs', type=int, default=1, help='processes that price and train (1)')
    parser.add_argument('--cache', default='work_dirs/prices', help='folder for prices and latencies (%(default)s)')
    parser.add_argument('--measure', action='store_true', help='measure again what candidates take, for another load')
    parser.add_argument('--data-root', help='where the data lies')
    parser.add_argument('--batch-size', type=int, default=1, help='images per pass (1)')
    parser.add_argument('--repeats', type=int, default=20, help='rounds, of which medians are taken (20)')
    parser.add_argument('--device', default='cpu', help='cpu, cuda or cuda:N (cpu)')
    parser.add_argument('--dtype', default='float32', help=f'{", ".join(DTYPES)} (float32)')
    parser.add_argument('--threads', type=int, help="PyTorch's threads on the CPU (as many as there are cores)")
    parser.add_argument('--channels-last', action='store_true', help='lay images and weights out as (N, H, W, C)')
    parser.add_argument('--cfg-options', nargs='+', action=KeyValues, help='key=value, overriding the config')
    args = parser.parse_args()
    begin = time.perf_counter()
    with told_in_one_line():
        register_all_modules()
        MMLogger.get_current_instance().setLevel('WARNING')  # a line per start would be hundreds
        settings, speedups = checked(args), args.target_speedup or [None]
        cfg = read_config(args.config, args.cfg_options)
        check_recasting(cfg, args.config)
        recipes = {args.config: cfg.model.recipe} if args.beside is not None else {}
        for file in args.beside or ():
            other = read_config(file)
            check_recasting(other, file)
            recipes[file] = other.model.recipe
        labelled = []
        if args.real or args.min_top1 is not None:
            labelled = labelled_images(cfg, args.test_images, args.data_root)
        if cfg.model.get('block_input') == 'teacher':
            print("block_input='teacher' keeps the widths between blocks: no other is tried", file=sys.stderr)
        targets = {} if args.targets is None else dict(targets=args.targets)
        planner = planner_for(
            cfg, args.images, args.train_images, args.data_root, **targets, ratios=args.ratios, cache=args.cache,
            measure=args.measure, jobs=args.jobs, batch_size=args.batch_size, repeats=args.repeats, settings=settings,
            told=lambda line: print(line, file=sys.stderr, flush=True),
        )  # fmt: skip
        plans = []
        for speedup in speedups:
            plan = planner.plan(
                speedup, args.target_latency_ms, args.max_params, args.max_mults, args.max_acts, args.ranked
            )
            plans.append((speedup, plan, time.perf_counter() - begin))
            begin = time.perf_counter()
        drawn = frontier(planner, args, recipes, labelled) if args.frontier is not None else {}
        print(conditions_line(conditions(settings)))
        for speedup, plan, seconds in plans:
            out = args.out if len(speedups) == 1 else args.out.with_stem(f'{args.out.stem}_{speedup:g}x')
            told = (
                f'{plan.speedup:.2f} times as fast as the teacher, measured ({plan.measured_ms:.3g} ms, '
                f'{plan.predicted_ms:.3g} predicted); {plan.params:,} weights, {plan.mults:,} multiplications'
            )
            print('\n'.join([table(planner, plan).rstrip(), told, *verdict(plan)]))
            judged: dict = {}
            if args.min_top1 is not None:
                judged, line = accuracy(planner, plan, labelled, args.min_top1)
                print(line)
            begin = time.perf_counter()
            write_text(planned_config(planner, plan, cfg, args.config, out.resolve().parent, told), out)
            seconds += time.perf_counter() - begin
            about = record(planner, plan, settings) | dict(seconds=seconds) | drawn | judged
            write_json(about, out.with_suffix('.json'))
            print(f'{out} and {out.with_suffix(".json")} written; now: python tools/train.py {out}')


if __name__ == '__main__':
    main()
