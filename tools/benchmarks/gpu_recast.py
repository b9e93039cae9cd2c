"""Recast by one config in every precision and form of computation, and write what each took and came to.

``whole`` is the run as the config has it: minutes in all and, for every stage, images per second, utilisation of the
GPU and memory. ``precision`` are runs in float32, TF32, bfloat16 and float16: relative errors, top-1 after recasting
and after fine-tuning, and whether they converged. ``form`` are runs with channels first and with channels innermost in
memory, and with compiled blocks. What is finished stays in the work dir, so that several calls can share the work:

    python tools/benchmarks/gpu_recast.py --data-root DIR --teacher resnet56.pth --parts whole --out gpu_whole.json
    python tools/benchmarks/gpu_recast.py --data-root DIR --teacher resnet56.pth --parts precision form \\
        --budget 3000 --out docs/results/gpu_precision.json --plot docs/results/gpu_precision.svg

On a machine without a network, install from a folder of wheels that was carried along, and give paths for the rest:

    python -m venv .venv && .venv/bin/pip install --no-index --find-links WHEELS -c constraints.txt -e .

``DIR`` has ``train/<class>/*.jpg`` or the official batches; nvidia-ml-py, if installed, measures utilisation faster
than nvidia-smi. Without a GPU, try it with ``--images 512 --stages 2 --budget 40``; what needs a GPU is left out.
"""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

import torch
from conditions import conditions
from recast_forms import FORMS, PARTS, Form, run_form, settle
from recast_plot import draw_runs

from mmrecast.analysis.latency import check_counts
from mmrecast.analysis.numbers import NOTHING
from mmrecast.analysis.plots import check_matplotlib
from mmrecast.analysis.tables import render_table
from mmrecast.utils.checkpoint import write_json
from mmrecast.utils.cli import told_in_one_line
from mmrecast.utils.config_file import read_config
from mmrecast.utils.setup_env import register_all_modules

CONFIG = 'configs/distill/recasting/recasting_resnet56_convnet_cifar10-fast.py'
ROOT = Path(__file__).resolve().parents[2]


def table(runs: list[dict]) -> str:
    """Return one row per run, those that were left out with their reason."""
    columns = ['run', 'minutes', 'images/s', 'GPU', 'peak', 'error', 'recast', 'fine-tuned', 'teacher', 'converged']
    rows = []
    for run in runs:
        if run['left_out']:
            rows.append([run['name'], *[NOTHING] * 8, run['left_out']])
            continue
        rows.append(
            [run['name'], f'{run["minutes"]:.2f}']
            + [_text(run[key], form) for key, form in (
                ('images_per_second', '{:,.0f}'), ('gpu_utilisation', '{:.0f} %'), ('peak_mebibytes', '{:,.0f} MiB'),
                ('relative_error', '{:.4f}'), ('top1_recast', '{:.2f}'), ('top1', '{:.2f}'), ('teacher_top1', '{:.2f}'),
            )]
            + [{True: 'yes', False: 'no', None: NOTHING}[run['converged']]]
        )  # fmt: skip
    return render_table(columns, rows, right=columns[1:9])


def _text(value: float | None, form: str) -> str:
    return NOTHING if value is None else form.format(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--config', default=str(ROOT / CONFIG), help='of a recasting (ResNet-56, fast schedule)')
    parser.add_argument('--data-root', help='where the data lies, for every loader of the config')
    parser.add_argument('--teacher', help='file with the teacher’s weights (as the config says)')
    parser.add_argument('--parts', nargs='+', choices=PARTS, default=list(PARTS), help='what to run (everything)')
    parser.add_argument('--budget', type=int, help='iterations of every run, to which its schedule is scaled')
    parser.add_argument('--images', type=int, help='training images, and for validation (all)')
    parser.add_argument('--stages', type=int, help='how many of the first blocks are recast (all)')
    parser.add_argument('--seed', type=int, default=0, help='of every run (0)')
    parser.add_argument('--tolerance', type=float, default=1.0, help='points below float32 that still converged (1)')
    parser.add_argument('--device', choices=['cpu', 'cuda'], help='refuse to run on another (what there is)')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/gpu_recast'), help='where runs are kept')
    parser.add_argument('--out', type=Path, help='JSON file for the result')
    parser.add_argument('--plot', type=Path, help='figure of it; its ending says the format')
    args = parser.parse_args()
    with told_in_one_line():
        there = 'cuda' if torch.cuda.is_available() else 'cpu'
        if args.device not in (None, there):
            hint = 'no GPU can be used' if there == 'cpu' else 'hide the GPU with CUDA_VISIBLE_DEVICES='
            raise ValueError(f'--device {args.device}, but runs would be on {there}: {hint}')
        given = dict(budget=args.budget, images=args.images, stages=args.stages)
        check_counts(**{name: value for name, value in given.items() if value is not None})
        for name in ('out', 'plot'):
            path = getattr(args, name)
            if path and not path.resolve().parent.is_dir():
                raise ValueError(f'--{name} {path} is no file in a folder that is there')
        if args.plot:
            check_matplotlib()
        register_all_modules()
        cfg = settle(read_config(args.config), args.teacher, args.seed, **given)
        wanted: list[Form] = [form for form in FORMS if form.part in args.parts]
        runs = []
        for form in wanted:
            print(f'{form.name} …', file=sys.stderr, flush=True)
            settings = dict(config=Path(args.config).name, teacher=args.teacher, seed=args.seed, **given, device=there)
            runs.append(run_form(cfg, form, args.work_dir, settings, args.data_root))
        judge(runs, args.tolerance)
        print(table(runs).rstrip())
        if args.plot:
            draw_runs(runs, args.plot)
        if args.out:
            about = conditions() | dict(cuda=torch.version.cuda)
            about |= dict(settings=settings, tolerance=args.tolerance, forms=[asdict(form) for form in wanted])
            write_json(about | dict(runs=runs), args.out)


def judge(runs: list[dict], tolerance: float) -> None:
    """Say of every run whether it converged: losses and errors are numbers, top-1 at most ``tolerance`` below float32.

    Without a run in float32, or without its accuracy, it is not known of those that are finite.
    """
    plain = next((run['top1'] for run in runs if run['name'] == 'fp32' and not run['left_out']), None)
    for run in runs:
        if run['left_out']:
            run['converged'] = None
        elif not run['finite']:
            run['converged'] = False
        else:
            known = plain is not None and run['top1'] is not None
            run['converged'] = run['top1'] >= plain - tolerance if known else None


if __name__ == '__main__':
    main()
