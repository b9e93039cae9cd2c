"""How much of a training step goes into its data: fetching, transport, augmentation, normalisation."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mmengine.optim import OptimWrapper
from torch import nn
from torch.utils.data import DataLoader

from mmrecast.algorithms import Recasting
from mmrecast.registry import MODELS
from mmrecast.stages import Stage


@dataclass(frozen=True)
class Share:
    """The data path beside the training of one stage.

    Args:
        stage (str): Its name.
        batch_size (int): Images of a step.
        workers (int): Processes that load.
        images_per_second (float): Of training, data included.
        data_ms (float): Of a step, waiting for the batch and preparing it.
        step_ms (float): A whole step.
        share (float): The first over the second.
    """

    stage: str
    batch_size: int
    workers: int
    images_per_second: float
    data_ms: float
    step_ms: float
    share: float


def shares(
    teacher: dict, source: str, path: tuple[DataLoader, nn.Module], stages: Sequence[int], steps: int
) -> list[Share]:
    """Train a recasting into convolutions beside a data path.

    Args:
        teacher (dict): Config of the network that is recast; its weights are random.
        source (str): Pattern of its blocks.
        path (tuple): A loader and a preprocessor.
        stages (list[int]): Which stages to time, in ascending order; -1 for fine-tuning.
        steps (int): Steps of each, after one that warms up.
    """
    loader, preprocessor = path
    recipe = [dict(source=source, target=dict(type='ConvBlock'))]
    algorithm = MODELS.build(
        dict(type='Recasting', teacher=teacher, recipe=recipe, data_preprocessor=preprocessor, next_block='frozen')
    )
    schedule = algorithm.expand([Stage('recast', blocks='all', iters=1), Stage('finetune', iters=1)])
    wanted, found = [index % len(schedule) for index in stages], []
    batches = _endless(loader)
    for index, stage in enumerate(schedule[: max(wanted) + 1]):
        algorithm.begin_stage(stage, initialise=False)
        if index in wanted:
            data_ms, step_ms = _timed(algorithm, batches, steps)
            rate = loader.batch_size * 1000 / step_ms
            found.append(
                Share(
                    stage.name,
                    loader.batch_size,
                    loader.num_workers,
                    round(rate, 1),
                    round(data_ms, 2),
                    round(step_ms, 2),
                    round(data_ms / step_ms, 4),
                )  # fmt: skip
            )
    return found


def _endless(loader: DataLoader):
    while True:
        yield from loader


def _timed(algorithm: Recasting, batches, steps: int) -> tuple[float, float]:
    """Return the mean milliseconds of a step's data and of the whole step."""
    optimizer = OptimWrapper(torch.optim.Adam([p for p in algorithm.parameters() if p.requires_grad], lr=1e-4))
    algorithm.train()
    data_seconds = 0.0
    for step in range(steps + 1):
        if step == 1:
            begun, data_seconds = time.perf_counter(), 0.0
        asked = time.perf_counter()
        data = algorithm.data_preprocessor(next(batches), True)
        data_seconds += time.perf_counter() - asked
        losses = algorithm(**data, mode='loss')
        optimizer.update_params(algorithm.parse_losses(losses)[0])
    return data_seconds / steps * 1000, (time.perf_counter() - begun) / steps * 1000
