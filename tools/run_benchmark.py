"""Compare methods on one teacher/student pair: train what is not trained yet, set the results side by side.

A pair is the name of its configs without the method: `vgg8_x0.4_cifar10-short` stands for
configs/distill/<method>/<method>_vgg8_x0.4_cifar10-short.py. A teacher that the configs name
and that is not there is trained first, by its own config. The same command goes on where it was interrupted, and skips
what is done:

    python tools/run_benchmark.py --pair vgg8_x0.4_cifar10-short densenet40_basic_cifar10-short --data-root DIR
    python tools/run_benchmark.py --pair resnet56_resnet20_cifar10-short --methods kd at recasting --seeds 0 1 \
        --budget 800 --data-root DIR

Further configs stand in the table of each pair under their own names. A run that leaves several networks (an adjoined
one leaves the full network, too) has a row for each:

    python tools/run_benchmark.py --pair resnet20b_alpha4_cifar10-short --methods backprop adjoined \
        --configs backprop_resnet20b_full_cifar10-short dan_resnet20b_cifar10-short --data-root DIR
"""

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from mmrecast.utils.checkpoint import read_json, write_json
from mmrecast.utils.cli import told_in_one_line
from mmrecast.utils.config_file import read_config
from mmrecast.utils.names import nearest

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / 'configs' / 'distill'
METHODS = ('recasting', 'kd_mse', 'backprop')


@dataclass(frozen=True)
class Run:
    """One training.

    Args:
        pair (str): What its results are filed under.
        label (str): The method, or 'teacher'.
        config (Path): Its config.
        work_dir (Path): Where it trains.
        options (list[str]): ``--cfg-options``.
    """

    pair: str
    label: str
    config: Path
    work_dir: Path
    options: list[str] = field(default_factory=list)

    def result(self) -> dict | None:
        """Return the result if the run is finished."""
        file = self.work_dir / 'result.json'
        content = read_json(file) if file.is_file() else None
        return content if isinstance(content, dict) and content.get('complete') else None

    def others(self) -> list['Run']:
        """Return, of a finished run, the further networks that it left, each as a run that is finished."""
        names = (self.result() or {}).get('also', {})
        return [replace(self, label=f'{self.label} ({name})', work_dir=self.work_dir / name) for name in names]

    def command(self, data_root: str | None, work_dir: str | None = None) -> list[str]:
        """Return the arguments of the interpreter; ``work_dir`` stands for the run's own."""
        words = ['tools/train.py', os.path.relpath(self.config, ROOT), '--work-dir', work_dir or str(self.work_dir)]
        words += ['--data-root', data_root] if data_root else []
        words += ['--resume'] if work_dir is None and (self.work_dir / 'last_checkpoint').is_file() else []
        return words + (['--cfg-options', *self.options] if self.options else [])

    def train(self, data_root: str | None) -> str:
        """Train, or leave a finished run alone; return what went wrong ('' if nothing)."""
        if self.result():
            say(f'{self.work_dir}: already done')
            return ''
        self.work_dir.mkdir(parents=True, exist_ok=True)
        log = self.work_dir / 'train.log'
        say(f'{self.work_dir}: training (log: {log})')
        with open(log, 'a', encoding='utf-8') as out:
            code = subprocess.run(
                [sys.executable, *self.command(data_root)], cwd=ROOT, stdout=out, stderr=subprocess.STDOUT
            ).returncode
        result = self.result()
        if code or result is None:
            lines = [line for line in log.read_text(encoding='utf-8').splitlines() if line.strip()]
            return f'{self.work_dir} ended with status {code}: {lines[-1] if lines else "no output"}'
        say(f'{self.work_dir}: top-1 {result["top1"]:.2f} % after {result["seconds"]:.0f} s')
        return ''


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def config_of(method: str, pair: str) -> Path:
    """Return the config of a method for a pair.

    Raises:
        ValueError: There is none; the message lists the nearest.
    """
    leaves = {path.stem: path for path in CONFIGS.glob('[!_]*/*.py')}
    if f'{method}_{pair}' in leaves:
        return leaves[f'{method}_{pair}']
    pairs = [name.removeprefix(f'{method}_') for name in leaves if name.startswith(f'{method}_')]
    if pairs:
        raise ValueError(f'{method} has no config for the pair {pair!r}{nearest(pair, pairs)}')
    methods = [path.name for path in CONFIGS.glob('[!_]*')]
    raise ValueError(f'there is no method {method!r}{nearest(method, methods)}')


def config_named(name: str) -> Path:
    """Return a method's config by its name.

    Raises:
        ValueError: There is none; the message lists the nearest.
    """
    leaves = {path.stem: path for path in CONFIGS.glob('[!_]*/*.py')}
    if name not in leaves:
        raise ValueError(f'there is no config {name!r}{nearest(name, leaves)}')
    return leaves[name]


def plan_runs(
    pairs: Sequence[str],
    methods: Sequence[str],
    seeds: Sequence[int],
    out: Path,
    given: Path | None,
    extra: Sequence[str],
    budget: Sequence[str] = (),
    configs: Sequence[str] = (),
) -> tuple[list[Run], list[Run]]:
    """Return the teachers that must be trained and the runs of the methods.

    Args:
        pairs, methods, seeds: What to run.
        out (Path): Folder of all work dirs.
        given (Path, optional): A checkpoint of the teacher to use.
        extra (Sequence[str]): Further ``key=value`` for every run.
        budget (Sequence[str]): Further ``key=value`` for the methods' runs, not for a teacher's. Defaults to none.
        configs (Sequence[str]): Names of further configs, run beside every pair's methods. Defaults to none.

    Raises:
        ValueError: A config is missing, or the teacher is and none can be trained.
        FileNotFoundError: The checkpoint given is not there.
    """
    if given is not None and not given.is_file():
        raise FileNotFoundError(f'there is no teacher at {given}')
    teachers, runs = {}, []
    for pair in pairs:
        beside = [(method, config_of(method, pair)) for method in methods]
        beside += [(name, config_named(name)) for name in configs]
        for method, config in beside:
            named = (read_config(config).get('model') or {}).get('teacher_ckpt')
            for seed in seeds:
                options = [f'randomness.seed={seed}', *extra, *budget]
                if named:
                    checkpoint = given or _teacher(named, pair, out, teachers, extra)
                    options.append(f'model.teacher_ckpt={checkpoint}')
                runs.append(Run(pair, method, config, out / pair / f'{method}_seed{seed}', options))
    return list(teachers.values()), runs


def _teacher(named: str, pair: str, out: Path, teachers: dict[str, Run], extra: Sequence[str]) -> Path:
    """Return where the teacher's weights are or will be; note the training they need."""
    if Path(named).is_file():
        return Path(named).resolve()
    name = Path(named).parent.name  # work_dirs/<config>/student.pth
    config = CONFIGS / name.split('_')[0] / f'{name}.py'
    if not config.is_file():
        raise ValueError(f'the teacher of {pair} is not at {named}, and no config trains it: give --teacher-ckpt FILE')
    teachers.setdefault(name, Run('', 'teacher', config, out / name, [*extra]))
    return out / name / 'student.pth'


def summary(pair: str, runs: Sequence[Run], teacher: Run | None, data_root: str | None, data: str | None) -> dict:
    """Return the results of a pair's finished runs with the command of each, as kept under docs/results.

    Args:
        pair (str): Its name.
        runs (list[Run]): Those of the methods.
        teacher (Run, optional): That of the teacher, if it was trained here.
        data_root (str, optional): Where the data lies.
        data (str, optional): What to call the data. Defaults to the class of the data set.
    """
    threads = f'OMP_NUM_THREADS={os.environ["OMP_NUM_THREADS"]} ' if 'OMP_NUM_THREADS' in os.environ else ''
    one_seed = len({str(run.work_dir).rsplit('_seed')[-1] for run in runs}) == 1
    kept = {}
    finished = [*([teacher] if teacher else []), *runs]
    for run in [one for owner in finished for one in (owner, *owner.others())]:
        result = run.result()
        if result is None:
            continue
        trained = next(owner for owner in finished if run.work_dir.is_relative_to(owner.work_dir))
        words = trained.command('DIR' if data_root else None, work_dir=trained.work_dir.name)
        words = ['model.teacher_ckpt=TEACHER' if word.startswith('model.teacher_ckpt') else word for word in words]
        starts = sum(stage.get('start_images', 0) for stage in result['stages'])
        extra = dict(command=f'{threads}python {shlex.join(words)}', images_seen=result['images'] + starts)
        label = (
            run.label if one_seed or run.label == 'teacher' else str(run.work_dir.relative_to(trained.work_dir.parent))
        )
        kept[label] = {k: v for k, v in result.items() if k not in ('data_root', 'plan', 'widths', 'work_dir')} | extra
    return dict(pair=pair, data=data or next(iter(kept.values()))['dataset'], runs=kept)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--pair', nargs='+', required=True, dest='pairs', metavar='PAIR')
    parser.add_argument('--methods', nargs='+', default=list(METHODS), help='(%(default)s)')
    parser.add_argument('--configs', nargs='+', default=[], metavar='NAME', help='further configs, by name')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0], help='(%(default)s)')
    parser.add_argument('--budget', type=int, metavar='ITERS', help='iterations of every run, in all its stages')
    parser.add_argument('--data-root', help='where the data lies')
    parser.add_argument('--data-name', help="what to call the data in benchmark.json (the data set's class)")
    parser.add_argument('--teacher-ckpt', type=Path, help="the teacher's weights, in place of what the configs name")
    parser.add_argument('--out', type=Path, default=Path('work_dirs/benchmark'), help='(%(default)s)')
    parser.add_argument('--jobs', type=int, default=1, help='trainings side by side (%(default)s)')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='for every run')
    args = parser.parse_args(arguments)
    with told_in_one_line():
        if args.jobs < 1:
            raise ValueError(f'--jobs must be at least 1, got {args.jobs}')
        if args.budget is not None and args.budget < 1:
            raise ValueError(f'--budget must be at least 1, got {args.budget}')
        for option in args.cfg_options:
            if '=' not in option:
                raise ValueError(f'--cfg-options: key=value expected, got {option!r}')
        out, root = args.out.resolve(), args.data_root and str(Path(args.data_root).expanduser().resolve())
        budget = [] if args.budget is None else [f'train_cfg.budget={args.budget}']
        teachers, runs = plan_runs(
            args.pairs, args.methods, args.seeds, out, args.teacher_ckpt, args.cfg_options, budget, args.configs
        )
        with ThreadPoolExecutor(args.jobs) as pool:
            failed = [why for why in pool.map(lambda run: run.train(root), teachers) if why]
            if not failed:
                failed = [why for why in pool.map(lambda run: run.train(root), runs) if why]
        for pair in args.pairs:
            own = [run for run in runs if run.pair == pair]
            taught = [t for t in teachers if any(str(t.work_dir) in option for run in own for option in run.options)]
            done = [str(one.work_dir) for run in own if run.result() for one in (run, *run.others())]
            if not done:
                continue
            write_json(
                summary(pair, own, taught[0] if taught else None, root, args.data_name), out / pair / 'benchmark.json'
            )
            report = out / pair / 'report'
            subprocess.run([sys.executable, 'tools/compare.py', *done, '--out', str(report)], cwd=ROOT, check=False)
        if failed:
            raise ValueError('; '.join(failed))


if __name__ == '__main__':
    main()
