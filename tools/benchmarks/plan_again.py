"""Measure what another budget takes once the cache of prices and latencies is filled.

``tools/plan.py`` is called anew for every budget, from the start of Python to the config that is written; a first call,
which is not counted, fills the cache. ``seconds`` is such a call, ``after_imports`` its part behind the imports, and
``further_budget`` what a second budget takes in one and the same call.

    OMP_NUM_THREADS=1 python tools/benchmarks/plan_again.py --data-root DIR --teacher resnet56.pth --out FILE
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from conditions import conditions

from mmrecast.analysis.latency import check_counts
from mmrecast.analysis.tables import render_table
from mmrecast.utils.checkpoint import write_json
from mmrecast.utils.cli import told_in_one_line

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'configs/distill/recasting/recasting_resnet56_convnet_cifar10-fast.py'


def planned(args: argparse.Namespace, speedups: Sequence[float], folder: Path) -> tuple[float, list[dict]]:
    """Call ``tools/plan.py`` for budgets; return its seconds and what it wrote of each plan.

    Raises:
        ValueError: The call failed; its last line is told.
    """
    out = folder / 'plan.py'
    words = [args.config, '--data-root', args.data_root, '--cfg-options', f'model.teacher_ckpt={args.teacher}']
    words += ['--images', args.images, '--batch-size', args.batch_size, '--jobs', args.jobs, '--cache', args.cache]
    words += ['--ratios', *args.ratios, '--target-speedup', *speedups, '--out', out]
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, str(ROOT / 'tools/plan.py'), *map(str, words)], capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - begin
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ['']
        raise ValueError(f'tools/plan.py ended with {done.returncode}: {lines[-1]}')
    names = [out.stem] if len(speedups) == 1 else [f'{out.stem}_{speedup:g}x' for speedup in speedups]
    return seconds, [json.loads((folder / f'{name}.json').read_text(encoding='utf-8')) for name in names]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--config', type=Path, default=CONFIG, help='of a Recasting (ResNet-56, fast)')
    parser.add_argument('--data-root', required=True, help='where the data lies')
    parser.add_argument('--teacher', required=True, help="the teacher's weights")
    parser.add_argument('--speedups', type=float, nargs='+', default=[1.5, 2.0, 3.0, 4.0], help='budgets (1.5 2 3 4)')
    parser.add_argument('--ratios', type=float, nargs='+', default=[1.0, 0.75, 0.5, 0.25], help='(1 0.75 0.5 0.25)')
    parser.add_argument('--images', type=int, default=64, help='for prices, and as many to judge by (64)')
    parser.add_argument('--batch-size', type=int, default=1, help='images per pass (1)')
    parser.add_argument('--jobs', type=int, default=1, help='processes that fill the cache (1)')
    parser.add_argument('--cache', type=Path, default=Path('work_dirs/prices'), help='folder (%(default)s)')
    parser.add_argument('--out', type=Path, help='JSON file for the result')
    args = parser.parse_args()
    with told_in_one_line():
        check_counts(images=args.images, batch_size=args.batch_size, jobs=args.jobs)
        about, calls = conditions(), []
        with tempfile.TemporaryDirectory() as folder:
            first, _ = planned(args, args.speedups[:1], Path(folder))
            for speedup in args.speedups:
                seconds, (plan,) = planned(args, [speedup], Path(folder))
                if plan['priced']:
                    raise ValueError(f'{plan["priced"]} targets were priced again: {args.cache} does not keep them')
                numbers = dict(seconds=seconds, after_imports=plan['seconds'], speedup=plan['plan']['speedup'])
                calls.append(dict(asked=speedup) | {name: round(value, 3) for name, value in numbers.items()})
            _, plans = planned(args, args.speedups, Path(folder))
        further = [round(plan['seconds'], 3) for plan in plans[1:]]
    names = ['asked', 'speedup', 'seconds', 'after_imports']
    rows = [[f'{call[name]:.2f}' for name in names] for call in calls]
    print(render_table(['asked', 'measured', 's', 'behind the imports, s'], rows, right=['asked', 'measured']).rstrip())
    print(f'the first call took {first:.1f} s; further budgets of one call: {", ".join(f"{s:.1f} s" for s in further)}')
    if args.out:
        write_json(about | dict(first_call=round(first, 1), calls=calls, further_budget=further), args.out)


if __name__ == '__main__':
    main()
