"""Hooks of the staged loop: checkpoints, results, and what is printed."""

import datetime
import json
import os
import platform
import re
from collections.abc import Iterable
from pathlib import Path

import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import CheckpointHook, EMAHook, Hook
from mmengine.runner import LogProcessor
from torch import nn

from mmrecast.engine.disk import going_on
from mmrecast.engine.records import accuracies
from mmrecast.engine.stage_stop_hook import StageStopHook
from mmrecast.engine.width_hook import WidthHook
from mmrecast.registry import HOOKS, LOG_PROCESSORS
from mmrecast.surgery.student_file import Origin, save_student
from mmrecast.utils.checkpoint import save_file, unfinished, write_json
from mmrecast.utils.modules import untouched
from mmrecast.utils.versions import made_with

KEPT = ('top1', 'seed', 'deterministic', 'images', 'config', 'input_shape', 'machine', 'versions')  # in student.pth
CHECKPOINT = 'stage{stage:03d}_iter{iter:08d}.pth'


@HOOKS.register_module()
class StagedCheckpointHook(Hook):
    """Write checkpoints at the end of every stage and, within a stage, every so many epochs or iterations.

    Args:
        interval (int, optional): Epochs between two checkpoints; None for none within a stage. Defaults to 1.
        iter_interval (int, optional): Iterations between two checkpoints. Defaults to None.
        max_keep_ckpts (int): How many of the newest to keep. Defaults to 2.
        on_failure (str): What to do where a checkpoint cannot be written, or another file of the run that is written
            again later: 'stop', or 'warn' and go on; the next position tries again. Defaults to 'stop'.

    Raises:
        ValueError: A number is smaller than 1, or ``on_failure`` is neither.
    """

    priority = 'VERY_LOW'

    def __init__(
        self,
        interval: int | None = 1,
        iter_interval: int | None = None,
        max_keep_ckpts: int = 2,
        on_failure: str = 'stop',
    ) -> None:
        given = dict(interval=interval, iter_interval=iter_interval, max_keep_ckpts=max_keep_ckpts)
        for name, value in given.items():
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f'{name} of the checkpoint hook must be at least 1, got {value!r}')
        if on_failure not in ('stop', 'warn'):
            raise ValueError(f"on_failure of the checkpoint hook must be 'stop' or 'warn', got {on_failure!r}")
        self.interval, self.iter_interval, self.max_keep_ckpts = interval, iter_interval, max_keep_ckpts
        self.on_failure = on_failure

    def before_train(self, runner) -> None:
        """Remove what is left of files during whose writing an earlier run was killed."""
        if is_main_process():
            folder = Path(runner.work_dir)
            for part in (folder, *filter(Path.is_dir, folder.iterdir())):
                _remove(runner, unfinished(part))

    def at_position(self, runner, kind: str) -> None:
        """Write a checkpoint if one is due at this position ('iter', 'epoch' or 'stage')."""
        loop = runner.train_loop
        if loop.alone:  # what a block has come to by itself is nothing to go on from
            return
        due = (
            kind == 'stage'
            or (kind == 'epoch' and self.interval and loop.stage_epoch % self.interval == 0)
            or (kind == 'iter' and self.iter_interval and loop.iter % self.iter_interval == 0)
        )
        if not due:
            return
        with going_on(runner):
            written = runner.write_checkpoint(CHECKPOINT.format(stage=loop.stage_index, iter=loop.iter))
            if is_main_process():
                older = sorted(p for p in Path(runner.work_dir).glob('stage*_iter*.pth') if p.name < Path(written).name)
                _remove(runner, older[: max(len(older) - self.max_keep_ckpts + 1, 0)])


@HOOKS.register_module()
class ResultHook(Hook):
    """Keep ``result.json`` (after every stage) and write ``student.pth`` (at the end) in the work dir.

    Of an algorithm that leaves further networks (``kept_networks``: the full network of an adjoined pair), each has
    a ``result.json`` and a ``student.pth`` of its own in a folder of its name, and is named under ``also`` in the
    student's result.

    Args:
        method (str): Name of the method in tables. Defaults to '': the algorithm's class.
        judge_teacher (bool): Whether to measure the teacher, too, at the end. Defaults to True.
    """

    priority = 'LOW'

    def __init__(self, method: str = '', judge_teacher: bool = True) -> None:
        self.method, self.judge_teacher = method, judge_teacher

    def after_stage(self, runner, record: dict) -> None:
        """Write what is known so far, and what the stage leaves for other runs."""
        loop = runner.train_loop
        if is_main_process():
            with going_on(runner):
                write_json(self._result(runner, loop.model.origin), os.path.join(runner.work_dir, 'result.json'))
        products = loop.model.stage_products(loop.stages[record['index']])
        for name, content in products.items() if is_main_process() else ():
            save_file(content, os.path.join(runner.work_dir, name))
            runner.logger.info(f'{runner.work_dir}/{name} written')

    def after_train(self, runner) -> None:
        """Judge the networks (and the teacher) on the whole test data; write students and results."""
        model = runner.train_loop.model
        kept = model.kept_networks
        names = [*filter(None, kept), '']  # the student's result, which says that the run is complete, comes last
        judged: dict[str, dict] = {name: {} for name in names}
        tail: dict = dict(complete=True)
        if runner.test_loop is not None:
            tail['val_images'] = len(runner.test_dataloader.dataset)
            for name in names:
                judged[name] = self._judged(runner, kept[name][0] if name else None)
            if self.judge_teacher and model.teacher is not None:
                teacher = self._judged(runner, model.teacher)
                tail['teacher'] = teacher | dict(constructor=model.teacher_constructor)
        if not is_main_process():
            return
        for name in names:
            network, origin = kept[name]
            result = self._result(runner, origin) | tail | judged[name]
            if name:
                result |= dict(method=f'{result["method"]} ({name})', network=name)
                result |= {} if judged[name] else dict(top1=None, val_images=None)  # the stages measured the student
            elif len(names) > 1:
                result['also'] = {other: judged[other].get('top1') for other in names if other}
            meta = {key: result[key] for key in KEPT}
            folder = os.path.join(runner.work_dir, name)
            save_student(os.path.join(folder, 'student.pth'), network, origin, meta)
            write_json(result, os.path.join(folder, 'result.json'))
        runner.logger.info(summary(runner.work_dir))

    @staticmethod
    def _judged(runner, network: nn.Module | None) -> dict[str, float | None]:
        """Return the accuracies of a network, of the student as it trained for None."""
        if network is None:
            return accuracies(runner.test_loop.run())
        with runner.train_loop.model.judging(network), untouched(network):
            return accuracies(runner.test_loop.run())

    def _result(self, runner, origin: Origin) -> dict:
        loop, dataset = runner.train_loop, runner.train_dataloader.dataset
        last = loop.history[-1] if loop.history else {}
        return dict(
            method=self.method or type(loop.model).__name__, name=runner.experiment_name, config=runner.cfg.filename,
            seed=runner.seed, deterministic=runner.deterministic,
            dataset=type(dataset).__name__, data_root=str(getattr(dataset, 'data_root', '')),
            classes=len((getattr(dataset, 'metainfo', None) or {}).get('classes', ())) or None,
            train_images=len(dataset), teacher=None, input_shape=list(loop.model.input_shape), stages=loop.history,
            images=loop.images, seconds=round(loop.seconds, 3), top1=last.get('top1'),
            val_images=last.get('val_images'),
            machine=machine(), versions=made_with(),
            **origin.changes(), complete=False,
        )  # fmt: skip


@LOG_PROCESSORS.register_module()
class StagedLogProcessor(LogProcessor):
    """Say in every training line which stage it is and how long that stage still takes; show small values in full."""

    def get_log_after_iter(self, runner, batch_idx: int, mode: str) -> tuple[dict, str]:
        """Put the stage before mmengine's line."""
        tag, line = super().get_log_after_iter(runner, batch_idx, mode)
        if mode != 'train':
            return tag, line
        loop = runner.train_loop
        for name, value in loop.model.scheduled.items():  # 1e-10 is not 0.0000
            line = re.sub(rf'(?<!\w){re.escape(name)}: \S+', f'{name}: {value:.4g}', line)
        left = loop.seconds_left_in_stage()
        left = '' if left is None else f', {datetime.timedelta(seconds=int(left))} left'
        return tag, f'[{loop.stage_index + 1}/{len(loop.stages)} {loop.stage.name}{left}] {line}'


def _remove(runner, paths: Iterable[Path]) -> None:
    """Remove files that are not needed; that one stays is no reason to stop."""
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            runner.logger.warning(f'{path} cannot be removed: {error.strerror}')


def machine() -> dict:
    """Return what kind of machine this is."""
    cpu = platform.processor() or platform.machine()
    info = Path('/proc/cpuinfo')
    if info.is_file():
        names = [
            line.split(':', 1)[1].strip() for line in info.read_text().splitlines() if line.startswith('model name')
        ]
        cpu = names[0] if names else cpu
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    return dict(cpu=cpu, cores=cores, threads=torch.get_num_threads(), gpu=gpu, processes=get_world_size())


def summary(work_dir: str) -> str:
    """Return one line on a finished run."""
    result = json.loads(Path(work_dir, 'result.json').read_text())
    top1 = 'not measured' if result['top1'] is None else f'{result["top1"]:.2f} % on {result["val_images"]} images'
    others = dict(teacher=result['teacher']['top1']) if result['teacher'] else {}
    others |= result.get('also', {})
    beside = ', '.join(f'{name} {value:.2f} %' for name, value in others.items() if value is not None)
    files = ', '.join(f'{Path(work_dir, name, "student.pth")}' for name in ('', *result.get('also', ())))
    return (
        f'top-1 {top1}{f" ({beside})" if beside else ""} after {result["images"]} images and '
        f'{result["seconds"]:.0f} s; {files}'
    )


def check_hooks(runner) -> None:
    """Refuse hooks that cannot serve a student whose form changes between stages, or not this algorithm."""
    for hook in runner.hooks:
        if isinstance(hook, EMAHook):
            raise ValueError('EMAHook copies the student before its blocks are replaced: leave it out of a staged run')
        if isinstance(hook, CheckpointHook):
            raise ValueError("a staged run cannot go on from CheckpointHook's files: use StagedCheckpointHook")
        if isinstance(hook, StageStopHook | WidthHook):
            hook.check(runner.bare_model)
