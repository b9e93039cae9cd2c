"""Run the comparison of the quickstart for several seeds, and KD and back propagation at other learning rates, too.

The test set of the digits is small, one point is 3.6 images: one seed shows little. What is finished is
kept, so it can be interrupted.

Example: ``OMP_NUM_THREADS=1 python tools/benchmarks/quickstart_seeds.py --out docs/results/quickstart_digits.json``
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev

from mmengine.config import Config

from mmrecast.utils.checkpoint import write_json
from mmrecast.utils.cli import told_in_one_line

ROOT = Path(__file__).resolve().parents[2]
SCRATCH = dict(
    kd_mse='configs/distill/kd_mse/kd_mse_resnet56_convnet_digits.py',
    backprop='configs/distill/backprop/backprop_resnet56_convnet_digits.py',
)
RATES = dict(kd_mse=[0.001, 0.002, 0.005, 0.01], backprop=[0.01, 0.02, 0.05])


def call(*arguments: str) -> None:
    """Run a command line of this project; its output goes to the terminal.

    Raises:
        ValueError: It failed.
    """
    if subprocess.run([sys.executable, *arguments], cwd=ROOT).returncode:
        raise ValueError(f'failed: {shlex.join(arguments)}')


def at_rate(method: str, rate: float, seed: int, folder: Path) -> float:
    """Train a sibling from scratch at another learning rate and return its top-1 accuracy."""
    work_dir, cfg = folder / f'{method}_lr{rate:g}', ROOT / SCRATCH[method]
    file = work_dir / 'result.json'
    if not (file.is_file() and json.loads(file.read_text())['complete']):
        options = [f'optim_wrapper.optimizer.lr={rate:g}', f'randomness.seed={seed}']
        if method == 'kd_mse':
            options.append(f'model.teacher_ckpt={folder}/teacher/student.pth')
        call('tools/train.py', str(cfg), '--work-dir', str(work_dir), '--cfg-options', *options)
    return json.loads(file.read_text())['top1']


def stat(values: list[float]) -> dict:
    """Return the values with their mean and sample standard deviation."""
    spread = round(stdev(values), 3) if len(values) > 1 else None
    return dict(mean=round(mean(values), 3), sd=spread, values=[round(value, 3) for value in values])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2, 3, 4])
    for method, rates in RATES.items():
        help = f'learning rates of {method} besides that of its config (%(default)s)'
        parser.add_argument(f'--{method}-rates', type=float, nargs='*', default=rates, help=help)
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/quickstart_seeds'))
    parser.add_argument('--out', type=Path, help='JSON file for the result')
    args = parser.parse_args()
    folders = [args.work_dir.resolve() / f'seed{seed}' for seed in args.seeds]
    own = {name: Config.fromfile(ROOT / path).optim_wrapper.optimizer.lr for name, path in SCRATCH.items()}
    with told_in_one_line():
        for seed, folder in zip(args.seeds, folders, strict=True):
            call('tools/quickstart.py', '--seed', str(seed), '--out', str(folder))
        runs = [json.loads((folder / 'comparison.json').read_text()) for folder in folders]
        rates: dict[str, dict] = {name: {} for name in SCRATCH}
        for method in SCRATCH:
            for rate in sorted({*getattr(args, f'{method}_rates'), own[method]}):
                top1 = [
                    run['students'][method]['top1'] if rate == own[method] else at_rate(method, rate, seed, folder)
                    for seed, folder, run in zip(args.seeds, folders, runs, strict=True)
                ]
                rates[method][f'{rate:g}'] = stat(top1)

    students = {name: [run['students'][name] for run in runs] for name in runs[0]['students']}
    teacher = [run['teacher'] for run in runs]
    ours = [student['top1'] for student in students['recasting']]
    gaps = [run['top1'] - top1 for run, top1 in zip(teacher, ours, strict=True)]
    threads = f'OMP_NUM_THREADS={os.environ["OMP_NUM_THREADS"]} ' if 'OMP_NUM_THREADS' in os.environ else ''
    result = dict(
        command=f'{threads}python {shlex.join(sys.argv)}', data=runs[0]['data'], test_images=teacher[0]['val_images'],
        seeds=args.seeds, teacher_images=teacher[0]['images'],
        images={name: [student['images'] for student in group] for name, group in students.items()},
        images_trained_by_recasting=students['recasting'][0]['images_trained'],
        top1=dict(teacher=stat([run['top1'] for run in teacher]))
        | {name: stat([student['top1'] for student in group]) for name, group in students.items()},
        gap_of_recasting=stat(gaps),
        seeds_within_one_point=sum(gap <= 1 for gap in gaps),
        seeds_ahead_of={
            name: sum(a > b['top1'] for a, b in zip(ours, students[name], strict=True)) for name in SCRATCH
        },
        seconds=dict(teacher=stat([run['seconds'] for run in teacher]))
        | {name: stat([student['seconds'] for student in group]) for name, group in students.items()},
        top1_by_learning_rate=rates, learning_rates_of_the_configs=own,
        speed_up={
            size: stat([run['latency'][size]['student']['ratio'] for run in runs]) for size in runs[0]['latency']
        },
        load_average=os.getloadavg()[0], machine=runs[0]['machine'], versions=runs[0]['versions'],
    )  # fmt: skip
    for name, values in result['top1'].items():
        print(f'{name:<12} {values["mean"]:6.2f} ± {values["sd"] or 0:.2f} %   {values["values"]}')
    for method, group in rates.items():
        said = [f'{rate}: {values["mean"]:.2f}' for rate, values in group.items()]
        print(f'{method} by learning rate: {", ".join(said)}')
    if args.out:
        write_json(result, args.out)


if __name__ == '__main__':
    main()
