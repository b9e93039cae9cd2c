"""Compare students of a planner with uniform ones of the same latency, after the same fine-tuning.

For every budget the planner chooses, and two families of recipes made by hand are measured beside the teacher: the
first n blocks recast into convolutions, and all of them, narrowed by one ratio. Of each family the one nearest to the
planned student's latency takes part, if it is within ``--equal``. All begin by closed forms of the same images,
and are fine-tuned by the same schedule on as many images, without hints; the planned student also begins once by the
blocks that were trained alone while planning (``warm``), which has seen ``--train-images`` images per target more.
What is finished is kept, so that it can be interrupted; several calls can share a work dir.

    OMP_NUM_THREADS=1 python tools/benchmarks/planned_students.py --data-root DIR --teacher resnet56.pth --out FILE
"""

import argparse
import functools
import hashlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev

from conditions import conditions
from figures import pair_of_axes
from mmengine.config import Config
from mmengine.logging import MMLogger

from mmrecast.analysis.complexity import convention_for, count
from mmrecast.analysis.latency import check_counts
from mmrecast.analysis.latency_settings import LatencySettings
from mmrecast.analysis.tables import render_table
from mmrecast.apis import train
from mmrecast.planning.config import config_text
from mmrecast.planning.costs import student_by, time_networks
from mmrecast.planning.from_config import planned_config, planner_for
from mmrecast.planning.planner import Planned, Planner
from mmrecast.utils.checkpoint import write_json, write_text
from mmrecast.utils.cli import told_in_one_line
from mmrecast.utils.config_file import read_config
from mmrecast.utils.setup_env import register_all_modules

CONFIG = Path(__file__).resolve().parents[2] / 'configs/distill/recasting/recasting_resnet56_convnet_cifar10-fast.py'
WIDTHS = [round(1 - 0.0625 * i, 4) for i in range(15)]  # of the teacher's: 1 down to 1/8
FAMILIES = ('first_n', 'narrowed')


@dataclass(frozen=True)
class Recipe:
    """Something to train.

    Args:
        kind (str): 'planned', 'warm', or one of ``FAMILIES``.
        asked (float): The speed-up that it stands for.
        name (str): Which of its family it is.
        config (str): Its config.
        speedup (float): Over the teacher, measured beside it and the others of this budget.
        params, mults (int): Counted on the whole network.
    """

    kind: str
    asked: float
    name: str
    config: str
    speedup: float
    params: int
    mults: int


def families(planner: Planner) -> dict[str, dict[str, list[dict]]]:
    """Return the recipes made by hand, by family and name.

    A block that can be no convolution of the teacher's width (it has no source) stays as it is; the last one keeps its
    width, which the classifier reads.
    """
    chain = planner.chain
    blocks = [block for block in chain.blocks if block.source is not None]
    conv = [dict(source=block.path, target=dict(type='ConvBlock')) for block in blocks]
    found = dict(first_n={f'first {n}': conv[:n] for n in range(1, len(conv) + 1)}, narrowed={})
    for ratio in WIDTHS:
        narrow = [dict(source=rule['source'], target=rule['target'] | dict(width_ratio=ratio)) for rule in conv[:-1]]
        found['narrowed'][f'all, x{ratio:g}'] = [*narrow, conv[-1]]
    return found


def times(planner: Planner, recipes: Sequence[Sequence[Mapping]]) -> list[float]:
    """Return the speed-ups of recipes over the teacher, measured beside it."""
    builders = [lambda r=recipe: student_by(planner.teacher, planner.chain, r) for recipe in recipes]
    return [s for _, s in time_networks(builders, planner.teacher, planner.input_shape, **planner.measuring)]


@functools.cache
def by_hand(planner: Planner) -> list[tuple[str, str, list[dict], float]]:
    """Return family, name, recipe and speed-up of all recipes made by hand."""
    named = [(family, name, recipe) for family, own in families(planner).items() for name, recipe in own.items()]
    return [(*one, s) for one, s in zip(named, times(planner, [recipe for *_, recipe in named]), strict=True)]


def rivals(planner: Planner, plan: Planned, equal: float) -> list[tuple[str, str, list[dict], float]]:
    """Return (family, name, recipe, speed-up) of the nearest of each family, measured again beside the plan.

    The plan itself comes first, as ('planned', 'planned', …).
    """
    near = [('planned', 'planned', plan.recipe)]
    for family in FAMILIES:
        own = [(abs(s / plan.speedup - 1), name, recipe) for f, name, recipe, s in by_hand(planner) if f == family]
        near += [(family, name, recipe) for _, name, recipe in sorted(own, key=lambda one: one[0])[:3]]
    exact = times(planner, [recipe for *_, recipe in near])
    found = [(*near[0], exact[0])]
    for family in FAMILIES:
        own = [(abs(s / exact[0] - 1), i) for i, s in enumerate(exact) if near[i][0] == family]
        off, i = min(own)
        if off <= equal:
            found.append((*near[i], exact[i]))
    return found


def recipes_for(planner: Planner, cfg: Config, asked: float, args: argparse.Namespace) -> list[Recipe]:
    """Plan for a speed-up, write the configs of the plan and of its rivals, and return them."""
    folder, plan = args.work_dir, planner.plan(asked)
    paths, convention = planner.chain.paths, convention_for(planner.input_shape)
    found = []
    for family, name, recipe, speedup in rivals(planner, plan, args.equal):
        counted = count(student_by(planner.teacher, planner.chain, recipe), planner.input_shape, convention)
        numbers = (round(speedup, 4), int(counted.params), int(counted.mults))
        config = folder / f'{family}_{asked:g}.py'
        about = f'{name}, {speedup:.2f} times as fast as the teacher'
        texts = {family: (config, config_text(cfg, args.config, folder, recipe, (), paths, {}, about))}
        if family == 'planned':
            warm = planned_config(planner, plan, cfg, args.config, folder, about)
            texts = {'planned': (config, planned_config(planner, plan, cfg, args.config, folder, about, warm=False))}
            if 'trained_blocks' in warm:
                texts['warm'] = (folder / f'warm_{asked:g}.py', warm)
        for kind, (path, text) in texts.items():
            write_text(text, path)
            found.append(Recipe(kind, asked, name, str(path), *numbers))
    return found


def settings_of(args: argparse.Namespace) -> dict:
    """Return what recipes and their measured speed-ups depend on."""
    names = ('ratios', 'images', 'train_images', 'batch_size', 'repeats', 'equal')
    weights = hashlib.sha256(Path(args.teacher).read_bytes()).hexdigest()[:16]
    return dict(config=Path(args.config).name, teacher=weights) | {name: getattr(args, name) for name in names}


def kept_recipes(args: argparse.Namespace, asked: float) -> tuple[list[Recipe], float] | None:
    """Return the recipes for a speed-up that a work dir holds, and the seconds that planning took; None for none.

    Raises:
        ValueError: They were made with other settings.
    """
    file = args.work_dir / f'recipes_{asked:g}.json'
    if not file.is_file():
        return None
    content = json.loads(file.read_text(encoding='utf-8'))
    other = [name for name, value in settings_of(args).items() if content['settings'].get(name) != value]
    if other:
        raise ValueError(f'{file} was made with another {", ".join(other)}: give another --work-dir')
    return [Recipe(**one) for one in content['recipes']], content['seconds']


def schedule(cfg: Config, iters: int, teacher: str) -> Config:
    """Return the config with closed forms alone for the blocks and so many iterations of fine-tuning, without hints."""
    cfg.model.update(teacher_ckpt=teacher, hints=None)
    finetune = {k: v for k, v in cfg.train_cfg.stages[-1].items() if k not in ('epochs', 'iters')}
    cfg.train_cfg.stages = [dict(kind='recast', blocks='all', iters=0, val=False), dict(finetune, iters=iters)]
    cfg.train_cfg.probe_images = 256
    return cfg


def outcome(recipe: Recipe, seed: int, args: argparse.Namespace) -> dict:
    """Train a recipe, or go on, or read what is finished."""
    work_dir = args.work_dir / f'{Path(recipe.config).stem}_seed{seed}'
    file = work_dir / 'result.json'
    result = json.loads(file.read_text(encoding='utf-8')) if file.is_file() else {}
    cfg = schedule(read_config(recipe.config), args.iters, args.teacher)
    images = args.iters * cfg.train_dataloader.batch_size
    if result.get('complete') and result['images'] != images:
        raise ValueError(f'{work_dir} was trained on {result["images"]} images, not {images}: give another --work-dir')
    if not result.get('complete'):
        print(f'{recipe.name}, {recipe.speedup:.2f} times as fast, seed {seed} …', file=sys.stderr, flush=True)
        cfg.randomness.seed = seed
        resume = (work_dir / 'last_checkpoint').is_file()
        result = train(cfg, work_dir=str(work_dir), data_root=args.data_root, resume=resume)
    numbers = dict(top1=result['top1'], teacher_top1=result['teacher']['top1'], images=result['images'])
    numbers |= dict(seconds=round(result['seconds'], 1), error_start=result['stages'][-1]['relative_error_start'])
    about = {name: value for name, value in asdict(recipe).items() if name != 'config'}
    return about | dict(seed=seed) | numbers


def table(runs: Sequence[dict]) -> str:
    """Return a line per recipe: accuracy over the seeds."""
    rows = []
    for asked, kind in dict.fromkeys((run['asked'], run['kind']) for run in runs):
        own = [run for run in runs if (run['asked'], run['kind']) == (asked, kind)]
        tops = [run['top1'] for run in own]
        spread = f' ± {stdev(tops):.2f}' if len(tops) > 1 else ''
        speed = f'{own[0]["speedup"]:.2f}'
        sizes = [f'{own[0]["params"]:,}', f'{own[0]["mults"] / 1e6:.1f} M']
        rows.append([f'{asked:g}', kind, own[0]['name'], speed, *sizes, f'{mean(tops):.2f}{spread}', len(own)])
    columns = ['asked', 'kind', 'recipe', 'speed-up', 'params', 'mults', 'top-1, %', 'seeds']
    return render_table(columns, rows, right=[c for c in columns if c not in ('kind', 'recipe')])


def plot(runs: Sequence[dict], path: Path) -> None:
    """Draw accuracy against measured speed-up, a point per run; beside it, against weights."""
    with pair_of_axes(path) as both:
        for axes, key, label in zip(both, ('speedup', 'params'), ('measured speed-up', 'weights'), strict=True):
            for kind, marker in zip(('planned', 'warm', *FAMILIES), 'oDs^', strict=True):
                own = [run for run in runs if run['kind'] == kind]
                axes.plot([run[key] for run in own], [run['top1'] for run in own], marker, label=kind)
            axes.set(xlabel=label, ylabel='top-1, %')
            axes.grid(alpha=0.3)
        both[0].legend()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--config', type=Path, default=CONFIG, help='of a Recasting (ResNet-56, fast)')
    parser.add_argument('--data-root', required=True, help='where the data lies')
    parser.add_argument('--teacher', required=True, help="the teacher's weights")
    parser.add_argument('--speedups', type=float, nargs='+', default=[1.5, 2.0, 4.3], help='budgets (1.5 2 4.3)')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1])
    parser.add_argument('--iters', type=int, default=120, help='of fine-tuning (120)')
    parser.add_argument(
        '--ratios', type=float, nargs='+', default=[1.0, 0.5], help='widths that may be planned (1 0.5)'
    )
    parser.add_argument('--images', type=int, default=256, help='for prices, and as many to judge by (256)')
    parser.add_argument('--train-images', type=int, default=0, help='per target that is trained alone (0: none is)')
    parser.add_argument('--jobs', type=int, default=1, help='processes that price and train (1)')
    parser.add_argument('--batch-size', type=int, default=16, help='at which latency counts (16)')
    parser.add_argument('--repeats', type=int, default=20, help='rounds, of which medians are taken (20)')
    parser.add_argument('--equal', type=float, default=0.05, help='by how much a rival may be faster or slower (0.05)')
    parser.add_argument('--plan-only', action='store_true', help='write the recipes, train nothing')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/planned_students'))
    parser.add_argument('--out', type=Path, help='JSON file for the result')
    parser.add_argument('--plot', type=Path, help='figure (.svg, .png)')
    args = parser.parse_args()
    with told_in_one_line():
        check_counts(iters=args.iters, images=args.images, jobs=args.jobs, batch_size=args.batch_size)
        check_counts(repeats=args.repeats)
        register_all_modules()
        about = conditions()
        args.work_dir.mkdir(parents=True, exist_ok=True)
        missing = [speedup for speedup in args.speedups if kept_recipes(args, speedup) is None]
        cfg = read_config(args.config)
        cfg.model.teacher_ckpt = args.teacher
        if missing:
            MMLogger.get_current_instance().setLevel('WARNING')  # a line per start would be hundreds
            planner = planner_for(
                cfg, args.images, args.train_images, args.data_root, ratios=args.ratios, jobs=args.jobs,
                cache=str(args.work_dir / 'prices'), batch_size=args.batch_size, repeats=args.repeats,
                settings=LatencySettings(), told=lambda line: print(line, file=sys.stderr, flush=True),
            )  # fmt: skip
            print(f'{sum(map(len, planner.options))} options are priced', file=sys.stderr)
            for speedup in missing:
                begin = time.perf_counter()
                made = [asdict(one) for one in recipes_for(planner, cfg, speedup, args)]
                about_them = dict(
                    settings=settings_of(args), seconds=round(time.perf_counter() - begin, 1), recipes=made
                )
                write_json(about_them, args.work_dir / f'recipes_{speedup:g}.json')
            del planner
        kept = {speedup: kept_recipes(args, speedup) for speedup in args.speedups}
        asked = {f'{speedup:g}': seconds for speedup, (_, seconds) in kept.items()}
        recipes = [recipe for own, _ in kept.values() for recipe in own]
        if args.plan_only:
            for one in recipes:
                print(f'{one.kind}: {one.name}, {one.speedup:.2f} times as fast, {one.params:,} weights')
            return
        runs = [outcome(recipe, seed, args) for seed in args.seeds for recipe in recipes]
    print(table(runs).rstrip())
    if args.plot:
        plot(runs, args.plot)
    if args.out:
        write_json(about | dict(planning_seconds=asked, runs=runs), args.out)


if __name__ == '__main__':
    main()
