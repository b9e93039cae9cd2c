"""Say where the time of a recasting step goes, by torch.profiler.

What operators take themselves, without those that they call, is summed by what they are for: on a GPU the time of their
kernels, else that on the CPU. ``python and hooks`` is the rest of the wall time of the profiled steps (the profiler's
own work included): what no operator accounts for, on a GPU the time in which it stands idle. ``ms`` is a step without
the profiler. ``reads`` is how often a value of a tensor is asked for in a step, by who asks: a synchronisation, if the
tensor is on a GPU. (PyTorch's fused optimisers of the CPU read their own step counters.) Images are random, and so are
the teacher's weights.

    OMP_NUM_THREADS=1 python tools/benchmarks/profile_step.py --stage 14 --out docs/results/profile_step_cpu.json
"""

import argparse
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import torch
from conditions import conditions, keep_memory
from mmengine.runner import Runner
from recast_step import CONFIG, timed_config
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function

from mmrecast.analysis.latency import check_counts
from mmrecast.analysis.tables import render_table
from mmrecast.apis.train import ready_runner
from mmrecast.utils.checkpoint import write_json
from mmrecast.utils.cli import told_in_one_line
from mmrecast.utils.modules import hooked
from mmrecast.utils.setup_env import register_all_modules

WARM_UP = 2  # steps
DATA, OPTIMISER, REST, OTHER = 'data', 'optimiser', 'python and hooks', 'other operators'
RANGES = ((DATA, re.compile(r'^data$')), (OPTIMISER, re.compile(r'^Optimizer\.')))  # all that is called within counts
KINDS = tuple(
    (name, re.compile(pattern, re.IGNORECASE))
    for name, pattern in (
        ('convolution backward', r'convolution_?backward'),
        ('convolution forward', r'conv'),
        ('batch norm backward', r'batch_?norm_?backward'),
        ('batch norm forward', r'batch_?norm'),
        ('ReLU', r'relu|threshold'),
        ('loss', r'mse|log_?softmax|nll_loss|cross_entropy'),
        ('gradients put by', r'AccumulateGrad'),
        ('sums, pooling, linear, copies', r'add|pad|slice|pool|mean|mm|linear|copy|clone|fill|zero|empty|detach'),
    )
)
GROUPS = (*(name for name, _ in KINDS), DATA, OPTIMISER, OTHER, REST)
READ = 'aten::_local_scalar_dense'


class ProfiledStage:
    """Profile steps of one recasting stage.

    Args:
        stage (int): Its number, from 1.
        steps (int): How many steps are timed, and as many again profiled.
    """

    kind = 'recast'

    def __init__(self, stage: int, steps: int) -> None:
        self.stage, self.steps = stage, steps
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
        self.profiler = profile(activities=activities)
        self.ms: list[float] = []  # of all steps
        self.block = ''

    def take(self, runner: Runner, data: dict, step: Callable[[], None]) -> None:
        """Take a step; behind the first half the profiler looks."""
        loop = runner.train_loop
        if loop.stage_index + 1 != self.stage:
            step()
            return
        self.block = loop.stage.block
        if len(self.ms) == WARM_UP + self.steps:
            self.profiler.start()
        _wait()
        start = time.perf_counter()
        with _data_marked(runner):
            step()
        _wait()
        self.ms.append((time.perf_counter() - start) * 1000)
        if len(self.ms) == WARM_UP + 2 * self.steps:
            self.profiler.stop()

    def result(self) -> dict:
        """Return the block, milliseconds and share of each group per step, and how often the host reads."""
        events, profiled = self.profiler.events(), sum(self.ms[-self.steps :])
        groups = {name: ms / self.steps for name, ms in grouped(events, profiled).items()}
        return dict(
            stage=self.stage, block=self.block, steps=self.steps,
            ms=round(median(self.ms[WARM_UP:-self.steps]), 3), profiled_ms=round(profiled / self.steps, 3),
            groups={name: dict(ms=round(ms, 3), share=round(ms * self.steps / profiled, 4))
                    for name, ms in groups.items()},
            reads={name: n / self.steps for name, n in
                   Counter(group_of(event) for event in events if event.name == READ).items()},
        )  # fmt: skip


def grouped(events: Iterable[FunctionEvent], wall_ms: float) -> dict[str, float]:
    """Return the milliseconds of each group; together they are ``wall_ms``."""
    sums, on_gpu = Counter({name: 0.0 for name in GROUPS}), torch.cuda.is_available()
    for event in events:
        took = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        sums[group_of(event)] += took / 1000
    sums[REST] = wall_ms - sum(sums.values())
    return dict(sums)


def group_of(event: FunctionEvent) -> str:
    """Return the group of an operator: that of the range it runs in, else of its name, else of who calls it."""
    names = [event.name]
    while (event := event.cpu_parent) is not None:
        names.append(event.name)
    for group, pattern in RANGES:
        if any(map(pattern.search, names)):
            return group
    return next((group for name in names for group, pattern in KINDS if pattern.search(name)), OTHER)


@contextmanager
def _data_marked(runner: Runner) -> Iterator[None]:
    """Give the preparing of the batch a range of its own."""
    preprocessor, mark = runner.bare_model.data_preprocessor, record_function(DATA)
    handles = [
        preprocessor.register_forward_pre_hook(lambda module, args: mark.__enter__() and None),
        preprocessor.register_forward_hook(lambda module, args, out: mark.__exit__(None, None, None)),
    ]
    with hooked(handles):
        yield


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def table(result: dict) -> str:
    """Return one row per group."""
    rows = [[name, f'{one["ms"]:.2f}', f'{100 * one["share"]:.1f}'] for name, one in result['groups'].items()]
    return render_table(['where', 'ms', '%'], rows, right=['ms', '%'])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', nargs='?', default=CONFIG, help='a recasting of a CIFAR ResNet (ResNet-56 → Conv)')
    parser.add_argument('--stage', type=int, default=14, help='number of the stage, from 1 (14)')
    parser.add_argument('--steps', type=int, default=5, help='profiled steps (5)')
    parser.add_argument('--batch-size', type=int, default=128, help='images per step (128)')
    parser.add_argument(
        '--channels-last', action=argparse.BooleanOptionalAction, help='layout of images (the config’s)'
    )
    parser.add_argument('--out', type=Path, help='JSON file for the result')
    args = parser.parse_args()
    with told_in_one_line():
        check_counts(steps=args.steps, batch_size=args.batch_size)
        if args.out and not args.out.resolve().parent.is_dir():
            raise ValueError(f'--out {args.out} is no file in a folder that is there')
        register_all_modules()
        iters, layout = WARM_UP + 2 * args.steps, dict(channels_last=args.channels_last)
        cfg, _ = timed_config(args.config, args.batch_size, iters, [args.stage], None, **layout)
        about = conditions() | dict(config=Path(args.config).stem, batch_size=args.batch_size, seed=0)
        about['memory_kept'] = keep_memory()
        with tempfile.TemporaryDirectory() as folder:
            runner = ready_runner(cfg, work_dir=folder)
            runner.train_loop.turns = profiled = ProfiledStage(args.stage, args.steps)
            runner.train()
        result = profiled.result()
        print(table(result).rstrip())
        reads = ', '.join(f'{name} {n:g}' for name, n in result['reads'].items()) or 'none'
        print(f'{result["ms"]:.1f} ms without the profiler; values read in a step: {reads}')
        if args.out:
            write_json(about | result, args.out)


if __name__ == '__main__':
    main()
