"""Work directories as finished runs leave them, made without training."""

import copy
import json
from pathlib import Path

import torch
from tiny import SHAPE, classifier

from mmrecast.algorithms.narrow_student import narrow_by
from mmrecast.models import build_network
from mmrecast.surgery.apply import check_plan
from mmrecast.surgery.plan import make_plan
from mmrecast.surgery.student_file import Origin, save_student

TEACHER = classifier(depth=14)
CONV = [dict(source='backbone.layer*.*', target='ConvBlock')]
BASIC = [dict(source='backbone.layer*.*', target='BasicBlock')]
HALF = [dict(source='backbone.layer*.0', target=dict(type='ConvBlock', width_ratio=0.5))]


def stage(index: int = 0, **fields) -> dict:
    """Return the record of a recasting stage."""
    record = dict(
        index=index, name=f'recast layer1.{index}', kind='recast', block=f'layer1.{index}', epochs=1,
        iters=10, images=1280, seconds=12.5, loss=0.1, relative_error_start=0.04, relative_error=0.02,
        top1=88.0, val_images=200,
    )  # fmt: skip
    return record | fields


def result(method: str = 'recasting', seed: int = 0, top1: float | None = 88.0, **fields) -> dict:
    """Return what a run writes to ``result.json``: 88 % top-1 by default, under a teacher of 90 %."""
    record = dict(
        method=method, name=f'{method}_{seed}', config=f'configs/distill/{method}.py', seed=seed,
        dataset='CIFAR10', data_root='/data', classes=10, teacher=dict(top1=90.0),
        input_shape=[3, 32, 32], images=3840, seconds=40.0, top1=top1, val_images=1000,
        stages=[stage(0), stage(1, relative_error=0.08, relative_error_start=None), stage(2)],
        machine=dict(cpu='a CPU', cores=2, threads=1, gpu=None, processes=1),
        versions=dict(torch='2.13.0', mmrecast='0.1.0'), plan=None, complete=True,
    )  # fmt: skip
    return record | fields


def leave(
    folder: str | Path,
    recipe: list | None = CONV,
    source: dict = TEACHER,
    student: bool = True,
    constructor: bool = True,
    narrow: dict | None = None,
    **fields,
) -> Path:
    """Fill a work directory and return it.

    Args:
        folder (str | Path): Made where there is none.
        recipe (list, optional): What the student was made by; None for ``source`` itself.
        source (dict): Config of the network it was made of.
        student (bool): Whether there is a ``student.pth``.
        constructor (bool): Whether that holds the config of the source.
        narrow (dict, optional): Arguments of ``narrow_by`` for what the recipe made.
        **fields: Fields of :func:`result`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    network, plan = build_network(copy.deepcopy(source)), None
    if recipe is not None:
        plan = make_plan(network, recipe, SHAPE)
        check_plan(network, plan)
    widths = None if narrow is None else narrow_by(network, SHAPE, **narrow)
    origin = Origin(source if constructor else None, plan, widths)
    if student:
        save_student(str(folder / 'student.pth'), network, origin)
    values = dict(input_shape=list(SHAPE), **origin.changes()) | fields
    (folder / 'result.json').write_text(json.dumps(result(**values)), encoding='utf-8')
    return folder
