"""Train a teacher, recast it block by block, and compare the student with KD and with back propagation.

The three students are one network and see equally many images. The same command goes on where it was interrupted.
"""

import argparse
import hashlib
import json
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from io import StringIO
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.hooks import Hook

from mmrecast.analysis.comparison import compare
from mmrecast.analysis.comparison_tables import table_terminal
from mmrecast.analysis.headline import comparison, headline
from mmrecast.analysis.numbers import duration
from mmrecast.analysis.report import write_report
from mmrecast.analysis.results import images_seen
from mmrecast.analysis.students import network_name
from mmrecast.apis import ready_runner
from mmrecast.engine import StagedRunner
from mmrecast.registry import DATASETS
from mmrecast.utils.checkpoint import copy_file, read_json, write_json, write_text
from mmrecast.utils.cli import told_in_one_line
from mmrecast.utils.setup_env import register_all_modules
from mmrecast.utils.work_dir_lock import lock_work_dir
from mmrecast.version import __version__

CONFIGS = Path(__file__).resolve().parents[1] / 'configs' / 'distill'
SETUPS = dict(
    digits=dict(
        teacher='backprop/backprop_resnet56_digits.py',
        recasting='recasting/recasting_resnet56_convnet_digits.py',
        kd_mse='kd_mse/kd_mse_resnet56_convnet_digits.py',
        backprop='backprop/backprop_resnet56_convnet_digits.py',
    ),
    cifar10=dict(
        teacher='backprop/backprop_resnet20_cifar10-short.py',
        recasting='recasting/recasting_resnet20_convnet_cifar10-short.py',
        kd_mse='kd_mse/kd_mse_resnet20_convnet_cifar10-short.py',
        backprop='backprop/backprop_resnet20_convnet_cifar10-short.py',
    ),
)
NAMES = dict(
    teacher='teacher', recasting='recasting', kd_mse='KD (MSE + cross entropy)', backprop='back propagation'
)  # fmt: skip
SETTINGS = 'quickstart_settings.txt'


class Progress(Hook):
    """Print a line per finished stage and, in long ones, one every ten seconds."""

    def before_train(self, runner) -> None:
        """Start the clock."""
        self._last = time.monotonic()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Say how long the stage still takes."""
        if time.monotonic() - self._last < 10:
            return
        self._last, left = time.monotonic(), runner.train_loop.seconds_left_in_stage()
        say(f'  {runner.train_loop.position}' + ('' if left is None else f', {duration(left)} left'))

    def after_stage(self, runner, record: dict) -> None:
        """Say how close to the teacher the student is."""
        self._last, parts = time.monotonic(), [f'{record["seconds"]:.1f} s']
        if len(runner.train_loop.stages) == 1:  # the line on the whole run says it
            return
        if record['relative_error'] is not None:
            parts.append(f'relative error {record["relative_error"]:.3f}')
        if record['top1'] is not None:
            parts.append(f'top-1 {record["top1"]:.2f} %')
        place = f'{record["index"] + 1}/{len(runner.train_loop.stages)}'
        say(f'  {place:>6} {record["name"]:<26} {", ".join(parts)}')


def say(text: str = '') -> None:
    """Print a line at once."""
    print(text, flush=True)


def read_configs(data_root: str | None, seed: int, scale: float) -> dict[str, Config]:
    """Return the configs of the four runs with the command line's choices in them, their lengths scaled."""
    configs = {}
    for name, path in SETUPS['cifar10' if data_root else 'digits'].items():
        cfg = Config.fromfile(CONFIGS / path)
        cfg.randomness = dict(seed=seed)
        for stage in cfg.train_cfg.stages:
            stage.iters = max(round(stage.iters * scale), 1)
        if scale < 1 and 'start' in cfg.model:
            cfg.model.start.images = max(round(cfg.model.start.images * scale), 64)
        for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader') if data_root else ():
            cfg[loader].dataset.data_root = str(Path(data_root).expanduser().resolve())
        configs[name] = cfg
    return configs


def introduce(configs: dict[str, Config], out: Path) -> None:
    """Say what is going to happen; the data are read here, so that what is wrong with them shows first."""
    register_all_modules()
    cfg = configs['recasting']
    train, test = (DATASETS.build(cfg[f'{part}_dataloader'].dataset) for part in ('train', 'test'))
    block, finetune = (stage.iters for stage in cfg.train_cfg.stages)
    size, teacher = cfg.train_dataloader.batch_size, configs['teacher'].train_cfg.stages[0].iters
    shape = ' x '.join(map(str, cfg.data_preprocessor.input_shape[1:]))
    say(f'{type(train).__name__}: {len(train):,} training and {len(test):,} test images of {shape}')
    say(
        f'{network_name(cfg.teacher)} is trained for {teacher:,} iterations of {size} images, then recast with '
        f'{block:,} iterations per block and {finetune:,} of fine-tuning.'
    )
    say(f'KD and back propagation train the same student on as many images. Everything is kept in {out}.')


def train(name: str, cfg: Config, out: Path, teacher: Path | None = None) -> dict:
    """Train one of the networks in ``out/name``, go on with it, or read the result of a finished run.

    Raises:
        ValueError: The folder holds something else.
    """
    folder, kept = out / name, None
    # Not cfg.pretty_text: how that is laid out depends on the formatter's state, and a change would start anew.
    settings = json.dumps(cfg.to_dict(), indent=1, sort_keys=True, default=str) + f"\nmmrecast = '{__version__}'\n"
    if teacher is not None:
        cfg.model.teacher_ckpt = str(teacher)
        settings += f"teacher = '{hashlib.sha256(teacher.read_bytes()).hexdigest()}'\n"
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / SETTINGS).is_file():
            raise ValueError(f'{folder} holds files that no quickstart has written: choose another --out')
        kept = (folder / SETTINGS).read_text(encoding='utf-8')
    if kept is not None and kept != settings:
        say(f'{NAMES[name]}: {folder} was made with other settings ({first_change(kept, settings)}), starting anew')
        shutil.rmtree(folder)
    result = finished(folder)
    if result is not None:
        say(f'{NAMES[name]}: already trained, top-1 {result["top1"]:.2f} %')
        return result
    runner = None
    if (folder / 'last_checkpoint').is_file():
        try:
            runner = quiet_runner(cfg, folder, resume=True)
            say(f'{NAMES[name]}: going on from {runner.train_loop.position}')
        except ValueError as error:
            say(f'{NAMES[name]}: cannot go on ({" ".join(str(error).split())}), starting anew')
            shutil.rmtree(folder)
    if runner is None:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(settings, folder / SETTINGS)
        runner = quiet_runner(cfg, folder)
        stages = len(runner.train_loop.stages)
        say(f'{NAMES[name]}: {runner.train_loop.max_iters:,} iterations' + (f', {stages} stages' if stages > 1 else ''))
    runner.train()
    result = finished(folder)
    say(f'  top-1 {result["top1"]:.2f} % on {result["val_images"]:,} test images, {duration(result["seconds"])}')
    return result


def finished(folder: Path) -> dict | None:
    """Return the result of a run that is complete, None for any other."""
    file = folder / 'result.json'
    result = read_json(file) if file.is_file() else None
    done = isinstance(result, dict) and result.get('complete')
    return result if done and (folder / 'student.pth').is_file() else None


def first_change(before: str, after: str) -> str:
    """Return the first line of ``after`` that ``before`` has not."""
    known = {line.strip() for line in before.splitlines()}
    return next((line.strip() for line in after.splitlines() if line.strip() not in known), 'something left out')


def quiet_runner(cfg: Config, folder: Path, resume: bool = False) -> StagedRunner:
    """Build a runner whose log goes to a file below ``folder``; only warnings reach the terminal."""
    terminal, nowhere = sys.stdout, StringIO()
    with redirect_stdout(nowhere):
        runner = ready_runner(cfg, work_dir=str(folder), resume=resume)
    for handler in runner.logger.handlers:
        if getattr(handler, 'stream', None) is nowhere:
            handler.setStream(terminal)
            handler.setLevel('WARNING')
    runner.register_hook(Progress())
    return runner


def report(results: dict[str, dict], out: Path, start: float) -> None:
    """Measure the latency, print the table, write page and numbers, and say what happened."""
    copy_file(out / 'recasting' / 'student.pth', out / 'student.pth')
    compared = compare([out / name for name in NAMES], say=say)
    teacher, student = compared.rows[:2]
    measures = dict(teacher=teacher, student=student)  # the three students are one network
    blocks = sum(entry['action'] == 'recast' for entry in results['recasting']['plan']['entries'])
    student_name = f'a plain network with {blocks} convolutions in the place of its {blocks} blocks'
    command = f'python {shlex.join(sys.argv)}'
    write_report(
        out / 'report.html', f'mmrecast quickstart: {student.results[0]["dataset"]}', compared, command=command,
        student_name=student_name, main='recasting', notes=[start_note(results['recasting'])],
    )  # fmt: skip
    write_json(
        dict(
            command=command, data=results['recasting']['dataset'], seed=results['recasting']['seed'],
            teacher=dict(name=compared.teacher_name, **summary(results['teacher'])),
            students={name: summary(result) for name, result in results.items() if name != 'teacher'},
            counts={k: {m: getattr(v.complexity, m) for m in ('params', 'mults', 'acts')} for k, v in measures.items()},
            latency={
                f'batch {n}': {k: asdict(v.latencies[n]) for k, v in measures.items()} for n in student.latencies
            },
            machine=results['recasting']['machine'], versions=results['recasting']['versions'],
            seconds_of_this_call=round(time.monotonic() - start, 1),
        ),
        out / 'comparison.json',
    )  # fmt: skip
    say()
    say(table_terminal(compared.rows))
    say()
    plan = compared.plans[student.key]
    say(headline(compared.rows, plan, 'recasting', compared.teacher_name, student_name))
    say(comparison(compared.rows, 'recasting'))
    say(start_note(results['recasting']))
    say(
        f'{duration(time.monotonic() - start)} in all. Open {out}/report.html; the student is {out}/student.pth '
        '(mmrecast.apis.load_student). To recast a network of your own, see README.md.'
    )


def summary(result: dict) -> dict:
    """Return what of a result the comparison keeps."""
    kept = {name: result[name] for name in ('top1', 'teacher', 'val_images', 'seconds')}
    return kept | dict(images=images_seen(result), images_trained=result['images'], config=result['config'])


def start_note(result: dict) -> str:
    """Say what the images of recasting are made of."""
    read = images_seen(result) - result['images']
    return f'Images seen by recasting: {result["images"]:,} in training and {read:,} read by its closed-form starts.'


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data-root', help='CIFAR-10 (official batches, or a tree of images) in place of the digits')
    parser.add_argument(
        '--out', type=Path, default=Path('work_dirs/quickstart'), help='folder for results (%(default)s)'
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of every run (%(default)s)')
    parser.add_argument('--scale', type=float, default=1.0, help='factor on all training lengths (%(default)s)')
    args = parser.parse_args(argv)
    if not 0 < args.scale <= 100:
        parser.error(f'--scale must be above 0 and at most 100, got {args.scale}')
    start, out = time.monotonic(), args.out
    if not args.data_root:  # a second thread gains little on 8x8 images, and loses much where the cores are busy
        torch.set_num_threads(1)
    try:
        with told_in_one_line():
            if out.exists() and not out.is_dir():
                raise FileExistsError(f'--out {out} is a file, a folder is needed')
            configs = read_configs(args.data_root, args.seed, args.scale)
            introduce(configs, out)
            lock = lock_work_dir(str(out))  # held to the end: another quickstart may start anew what this one trains
            results = dict(teacher=train('teacher', configs['teacher'], out))
            for name in ('recasting', 'kd_mse', 'backprop'):
                if name != 'recasting':  # as many images as recasting has seen
                    seen, size = images_seen(results['recasting']), configs[name].train_dataloader.batch_size
                    configs[name].train_cfg.stages[0].iters = -(-seen // size)
                teacher = None if name == 'backprop' else out / 'teacher' / 'student.pth'
                results[name] = train(name, configs[name], out, teacher)
            report(results, out, start)
            del lock
    except KeyboardInterrupt:
        say('\ninterrupted; the same command goes on from here')
        sys.exit(130)


if __name__ == '__main__':
    main()
