"""Hooks of the staged loop: checkpoints, results, and what is printed."""

import datetime
import json
import os
import platform
from pathlib import Path

import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import CheckpointHook, EMAHook, Hook
from mmengine.runner import LogProcessor

from mmrecast.engine.records import accuracies
from mmrecast.registry import HOOKS, LOG_PROCESSORS
from mmrecast.surgery.student_file import save_student
from mmrecast.utils.checkpoint import save_file, write_json
from mmrecast.version import __version__

CHECKPOINT = 'stage{stage:03d}_iter{iter:08d}.pth'


@HOOKS.register_module()
class StagedCheckpointHook(Hook):
    """Write checkpoints at the end of every stage and, within a stage, every so many epochs or iterations.

    Args:
        interval (int, optional): Epochs between two checkpoints; None for none within a stage. Defaults to 1.
        iter_interval (int, optional): Iterations between two checkpoints. Defaults to None.
        max_keep_ckpts (int): How many of the newest to keep. Defaults to 2.

    Raises:
        ValueError: A number is smaller than 1.
    """

    priority = 'VERY_LOW'

    def __init__(self, interval: int | None = 1, iter_interval: int | None = None, max_keep_ckpts: int = 2) -> None:
        given = dict(interval=interval, iter_interval=iter_interval, max_keep_ckpts=max_keep_ckpts)
        for name, value in given.items():
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f'{name} of the checkpoint hook must be at least 1, got {value!r}')
        self.interval, self.iter_interval, self.max_keep_ckpts = interval, iter_interval, max_keep_ckpts

    def before_train(self, runner) -> None:
        """Remove what is left of a checkpoint during whose writing an earlier run was killed."""
        if is_main_process():
            for path in Path(runner.work_dir).glob('.stage*_iter*.pth.*.tmp'):
                path.unlink()

    def at_position(self, runner, kind: str) -> None:
        """Write a checkpoint if one is due at this position ('iter', 'epoch' or 'stage')."""
        loop = runner.train_loop
        due = (
            kind == 'stage'
            or (kind == 'epoch' and self.interval and loop.stage_epoch % self.interval == 0)
            or (kind == 'iter' and self.iter_interval and loop.iter % self.iter_interval == 0)
        )
        if not due:
            return
        written = runner.write_checkpoint(CHECKPOINT.format(stage=loop.stage_index, iter=loop.iter))
        if is_main_process():
            older = sorted(p for p in Path(runner.work_dir).glob('stage*_iter*.pth') if p.name < Path(written).name)
            for path in older[: max(len(older) - self.max_keep_ckpts + 1, 0)]:
                path.unlink()


@HOOKS.register_module()
class ResultHook(Hook):
    """Keep ``result.json`` (after every stage) and write ``student.pth`` (at the end) in the work dir.

    Args:
        method (str): Name of the method in tables. Defaults to '': the algorithm's class.
        judge_teacher (bool): Whether to measure the teacher, too, at the end. Defaults to True.
    """

    priority = 'LOW'

    def __init__(self, method: str = '', judge_teacher: bool = True) -> None:
        self.method, self.judge_teacher = method, judge_teacher

    def after_stage(self, runner, record: dict) -> None:
        """Write what is known so far, and what the stage leaves for other runs."""
        self._write(runner, dict(complete=False))
        loop = runner.train_loop
        products = loop.model.stage_products(loop.stages[record['index']])
        for name, content in products.items() if is_main_process() else ():
            save_file(content, os.path.join(runner.work_dir, name))
            runner.logger.info(f'{runner.work_dir}/{name} written')

    def after_train(self, runner) -> None:
        """Judge the student (and its teacher) on the whole test data and write student and result."""
        loop = runner.train_loop
        tail: dict = dict(complete=True)
        if runner.test_loop is not None:
            tail |= accuracies(runner.test_loop.run()) | dict(val_images=len(runner.test_dataloader.dataset))
            if self.judge_teacher and loop.model.teacher is not None:
                with loop.model.judging(loop.model.teacher):
                    judged = accuracies(runner.test_loop.run())
                tail['teacher'] = judged | dict(constructor=loop.model.teacher_constructor)
        self._write(runner, tail)
        if is_main_process():
            meta = dict(top1=tail.get('top1'), seed=runner.seed, images=loop.images, config=runner.cfg.filename)
            path = os.path.join(runner.work_dir, 'student.pth')
            save_student(path, loop.model.student, loop.model.origin, meta)
            runner.logger.info(summary(runner.work_dir))

    def _write(self, runner, tail: dict) -> None:
        if not is_main_process():
            return
        loop, dataset = runner.train_loop, runner.train_dataloader.dataset
        plan, last = loop.model.origin.plan, loop.history[-1] if loop.history else {}
        result = dict(
            method=self.method or type(loop.model).__name__, name=runner.experiment_name, config=runner.cfg.filename,
            seed=runner.seed, dataset=type(dataset).__name__, data_root=str(getattr(dataset, 'data_root', '')),
            classes=len((getattr(dataset, 'metainfo', None) or {}).get('classes', ())) or None,
            train_images=len(dataset), teacher=None, input_shape=list(loop.model.input_shape), stages=loop.history,
            images=loop.images, seconds=round(loop.seconds, 3), top1=last.get('top1'),
            val_images=last.get('val_images'),
            machine=machine(), versions=dict(torch=torch.__version__, mmrecast=__version__),
            plan=None if plan is None else plan.to_dict(),
        )  # fmt: skip
        write_json(result | tail, os.path.join(runner.work_dir, 'result.json'))


@LOG_PROCESSORS.register_module()
class StagedLogProcessor(LogProcessor):
    """Say in every training line which stage it is and how long that stage still takes."""

    def get_log_after_iter(self, runner, batch_idx: int, mode: str) -> tuple[dict, str]:
        """Put the stage before mmengine's line."""
        tag, line = super().get_log_after_iter(runner, batch_idx, mode)
        if mode != 'train':
            return tag, line
        loop = runner.train_loop
        left = loop.seconds_left_in_stage()
        left = '' if left is None else f', {datetime.timedelta(seconds=int(left))} left'
        return tag, f'[{loop.stage_index + 1}/{len(loop.stages)} {loop.stage.name}{left}] {line}'


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
    teacher = f' (teacher {result["teacher"]["top1"]:.2f} %)' if result['teacher'] else ''
    return (
        f'top-1 {top1}{teacher} after {result["images"]} images and {result["seconds"]:.0f} s; {work_dir}/student.pth'
    )


def check_hooks(runner) -> None:
    """Refuse hooks that cannot serve a student whose form changes between stages."""
    for hook in runner.hooks:
        if isinstance(hook, EMAHook):
            raise ValueError('EMAHook copies the student before its blocks are replaced: leave it out of a staged run')
        if isinstance(hook, CheckpointHook):
            raise ValueError("a staged run cannot go on from CheckpointHook's files: use StagedCheckpointHook")
