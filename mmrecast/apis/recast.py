"""Recast any network from plain PyTorch in one call."""

import copy
import json
import os
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mmrecast.engine import StagedRunner
from mmrecast.surgery.plan import Plan
from mmrecast.surgery.student_file import Origin, save_student
from mmrecast.utils.setup_env import register_all_modules


@dataclass(frozen=True)
class RecastResult:
    """What :func:`recast` gives back.

    Args:
        student (nn.Module): The recast network, in eval mode, on the device it was trained on.
        plan (Plan): What became of each block.
        stages (list[dict]): One record per stage: images, seconds, relative error, top-1.
        top1 (float, optional): Of the student on ``val_loader``'s data, in per cent.
        teacher_top1 (float, optional): Of the teacher on the same.
    """

    student: nn.Module
    plan: Plan
    stages: list[dict]
    top1: float | None = None
    teacher_top1: float | None = None

    def save(self, path: str) -> None:
        """Write ``student.pth``; ``load_student(path, model=untrained_network)`` reads it."""
        save_student(path, self.student, Origin(None, self.plan), dict(top1=self.top1))


def recast(
    teacher: nn.Module,
    recipe: Sequence[dict],
    train_loader: DataLoader,
    val_loader: DataLoader | None = None,
    stages: Iterable[dict] | None = None,
    work_dir: str | None = None,
    seed: int = 0,
    verbose: bool = True,
    **options,
) -> RecastResult:
    """Recast a trained network block by block.

    Args:
        teacher (nn.Module): The trained network, images (N, C, H, W) → logits (N, classes). It is not changed.
        recipe (list[dict]): ``[dict(source='layer*.*', target=dict(type='ConvBlock'))]``; see ``tools/list_blocks.py``.
        train_loader (DataLoader): Batches ``(images, labels)``, float images as the teacher takes them.
        val_loader (DataLoader, optional): The same, for the accuracy after each stage. Defaults to none.
        stages (list[dict], optional): The schedule. Defaults to one epoch per block and ten of fine-tuning.
        work_dir (str, optional): Where logs, checkpoints and results are kept. Defaults to nowhere.
        seed (int): Seed of the run. Defaults to 0.
        verbose (bool): Whether to log. Defaults to True.
        **options: Options of :class:`mmrecast.algorithms.Recasting` (``start='closed_form'``, ``earlier=2``, …).

    Raises:
        ValueError: The recipe, the schedule or the data cannot be used; the message says what to write instead.
        KeyError: A type is not registered.
        FloatingPointError: A loss, a gradient or weights are not finite, or a stage diverged or became worse.

    Example:
        >>> result = recast(resnet18, [dict(source='layer1.*', target='ConvBlock')], loader, start='closed_form')
        >>> result.save('student.pth')
    """
    register_all_modules(init_default_scope=False)
    if not isinstance(teacher, nn.Module):
        raise TypeError(f'teacher must be a network (nn.Module), got {type(teacher).__name__}')
    input_shape = _image_shape('train_loader', train_loader)
    if val_loader is not None:
        _image_shape('val_loader', val_loader)
    adam = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-3))
    gentle = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=3e-4))
    cosine = dict(type='CosineAnnealingLR')
    if stages is None:
        stages = [dict(kind='recast', epochs=1), dict(kind='finetune', epochs=10, optim_wrapper=gentle)]
    with tempfile.TemporaryDirectory() as scratch:
        model = dict(
            type='Recasting', teacher=copy.deepcopy(teacher), recipe=recipe,
            data_preprocessor=dict(type='BatchPreprocessor', input_shape=input_shape), **options,
        )  # fmt: skip
        val = {} if val_loader is None else _validation(val_loader)
        checkpoint = dict(type='StagedCheckpointHook') if work_dir else None
        runner = StagedRunner(
            model=model, work_dir=work_dir or scratch, train_dataloader=train_loader,
            train_cfg=dict(type='StagedLoop', stages=list(stages)), optim_wrapper=adam, param_scheduler=cosine,
            default_hooks=dict(checkpoint=checkpoint, logger=dict(type='LoggerHook', interval=50)),
            custom_hooks=[dict(type='ResultHook')], log_processor=dict(type='StagedLogProcessor'),
            log_level='INFO' if verbose else 'WARNING', randomness=dict(seed=seed), default_scope='mmrecast',
            experiment_name=f'recast_{time.time_ns()}_{os.getpid()}', cfg=Config(), trains=True,
            **val,
        )  # fmt: skip
        runner.check()
        runner.train()
        result = json.loads(Path(runner.work_dir, 'result.json').read_text())
    algorithm, top1 = runner.bare_model, result['top1']
    teacher_top1 = result['teacher'] and result['teacher']['top1']
    return RecastResult(algorithm.student.eval(), algorithm.student_plan, result['stages'], top1, teacher_top1)


def _image_shape(name: str, loader: DataLoader) -> tuple[int, ...]:
    """Return the shape (C, H, W) of a loader's images, after a look at its first batch.

    Raises:
        TypeError: It is no DataLoader.
        ValueError: It gives something else than images with labels.
    """
    if not isinstance(loader, DataLoader):
        raise TypeError(f'{name} must be a torch.utils.data.DataLoader, got {type(loader).__name__}')
    if loader.batch_size is None and loader.batch_sampler is None:
        raise ValueError(f'{name} has no batch size: let it batch its data (batch_size=…)')
    batch = next(iter(loader), None)
    if batch is None:
        raise ValueError(f'{name} gives no batch: its data set is empty, or smaller than one batch with drop_last')
    pair = isinstance(batch, list | tuple) and len(batch) == 2 and all(isinstance(part, Tensor) for part in batch)
    if not pair or batch[0].ndim != 4 or batch[1].shape != batch[0].shape[:1] or batch[1].is_floating_point():
        parts = batch if isinstance(batch, list | tuple) else [batch]
        got = ', '.join(f'{tuple(p.shape)} {p.dtype}' if isinstance(p, Tensor) else type(p).__name__ for p in parts)
        raise ValueError(f'{name} must give pairs (images (N, C, H, W), whole-number labels (N,)), got {got}')
    return tuple(batch[0].shape[1:])


def _validation(loader: DataLoader) -> dict:
    evaluator = dict(type='mmpretrain.Accuracy', topk=(1,))
    return dict(
        val_dataloader=loader, val_cfg=dict(), val_evaluator=evaluator,
        test_dataloader=loader, test_cfg=dict(), test_evaluator=dict(evaluator),
    )  # fmt: skip
