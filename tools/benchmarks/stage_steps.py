"""What a recasting is made of, measured without a run: the step of each sampled stage, its FLOPs and its memory.

A step here is ``train_step`` on a batch of random images: preprocessing, both networks, loss, backward pass and Adam.
The weights are random, which changes neither FLOPs nor memory.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from mmengine.optim import OptimWrapper
from stage_flops import step_mults
from stage_memory import Memory, memory_of, whole_memory
from torch import Tensor, nn

from mmrecast.algorithms import Recasting
from mmrecast.registry import MODELS
from mmrecast.stages import Stage
from mmrecast.utils.modules import device_of

WIDTHS = (16, 32, 64)  # of the CIFAR ResNets
CLASSES = 10
WARMUP, LEAST = 1, 3  # steps before the measured ones, and how many of those at least


@dataclass(frozen=True)
class StageCost:
    """What one stage costs.

    Args:
        name (str): Its name.
        gflops (float): FLOPs of a step per image, in units of 1e9: two per multiplication of convolutions and the
            classifier, of both networks, forwards and backwards.
        ms (float, optional): Median of the measured steps, in milliseconds; None where the stage was not sampled.
        start_seconds (float, optional): What its beginning took, the closed-form start included.
        memory (Memory, optional): Of its step.
        whole_memory (Memory, optional): Of the same networks' step when both run whole and everything trains.
    """

    name: str
    gflops: float
    ms: float | None = None
    start_seconds: float | None = None
    memory: Memory | None = None
    whole_memory: Memory | None = None


def recasting(depth: int, width: int, size: int, start_images: int) -> Recasting:
    """Return the recasting of a CIFAR ResNet into convolutions, by closed-form starts.

    Args:
        depth (int): 6n+2; it has 3n blocks.
        width (int): Factor on the widths 16, 32, 64.
        size (int): Pixels per side of the images.
        start_images (int): Images a start reads.
    """
    widths = tuple(n * width for n in WIDTHS)
    teacher = dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='mmrecast.CifarResNet', depth=depth, widths=widths),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=CLASSES, in_channels=widths[-1]),
    )
    preprocessor = dict(
        type='BatchPreprocessor', input_shape=(3, size, size), mean=[127.5] * 3, std=[63.75] * 3, crop_padding=4,
        flip=True,
    )  # fmt: skip
    return MODELS.build(
        dict(
            type='Recasting',
            teacher=teacher,
            recipe=[dict(source='backbone.layer*.*', target=dict(type='ConvBlock'))],
            start=dict(type='closed_form', images=start_images),
            data_preprocessor=preprocessor,
        )  # fmt: skip
    )


def walk(algorithm: Recasting, sampled: int, batch_size: int, seconds: float) -> list[StageCost]:
    """Go through the stages of a recasting and measure some of them, the first, the last and fine-tuning included.

    Args:
        algorithm (Recasting): It ends recast, with random weights.
        sampled (int): Recasting stages that are measured, evenly spaced.
        batch_size (int): Images of a step.
        seconds (float): How long each is measured, at least three steps.

    Returns:
        list[StageCost]: One per stage.
    """
    stages = algorithm.expand([Stage('recast', blocks='all', iters=1), Stage('finetune', iters=1)])
    chosen = spaced(len(stages) - 1, sampled) | {len(stages) - 1}
    batch, costs = random_batch(algorithm, batch_size), []
    for index, stage in enumerate(stages):
        tap = None if stage.kind == 'finetune' else algorithm.plan.tap(algorithm.plan.steps[index])
        if index not in chosen:  # its target is put in place, no more
            algorithm.begin_stage(stage, initialise=False)
            costs.append(StageCost(stage.name, gflops(algorithm, tap)))
            continue
        begun = time.perf_counter()
        algorithm.begin_stage(stage, start_batches(algorithm, algorithm.start_images_of(stage), batch_size))
        wait(algorithm)
        took = time.perf_counter() - begun
        algorithm.train()
        ms = step_ms(algorithm, batch, seconds)
        memory, whole = memory_of(algorithm, algorithm.loss, batch), whole_memory(algorithm, batch)
        start = None if stage.kind == 'finetune' else took
        costs.append(StageCost(stage.name, gflops(algorithm, tap), ms, start, memory, whole))
    return costs


def spaced(count: int, sampled: int) -> set[int]:
    """Return ``sampled`` of the numbers 0 to ``count - 1``, evenly spaced, both ends included."""
    return {int(n) for n in np.linspace(0, count - 1, min(sampled, count)).round()}


def random_batch(algorithm: Recasting, size: int) -> dict[str, Tensor]:
    """Return a batch as the loader would give it: uint8 images (size, C, H, W), labels, sample numbers."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (size, *algorithm.input_shape), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, CLASSES, (size,), generator=generator)
    return dict(inputs=images, gt_label=labels, sample_idx=torch.arange(size))


def start_batches(algorithm: Recasting, images: int, size: int) -> Iterator[dict]:
    """Yield preprocessed batches for a start."""
    for first in range(0, images, size):
        yield algorithm.data_preprocessor(random_batch(algorithm, min(size, images - first)), True)


def step_ms(algorithm: Recasting, batch: dict, seconds: float) -> float:
    """Return the median time of a training step in milliseconds."""
    trained = [p for p in algorithm.parameters() if p.requires_grad]
    optimizer, times = OptimWrapper(torch.optim.Adam(trained, lr=1e-4)), []
    while len(times) < WARMUP + LEAST or sum(times[WARMUP:]) < seconds:
        begun = time.perf_counter()
        algorithm.train_step(batch, optimizer)
        wait(algorithm)
        times.append(time.perf_counter() - begun)
    return round(median(times[WARMUP:]) * 1000, 3)


def wait(algorithm: nn.Module) -> None:
    """Wait until the device has done what was asked of it."""
    if device_of(algorithm).type == 'cuda':
        torch.cuda.synchronize()


def gflops(algorithm: Recasting, tap: str | None) -> float:
    """Return the FLOPs of a step that ends at ``tap`` per image, in units of 1e9: two per multiplication."""
    return 2 * step_mults(algorithm.teacher, algorithm.student, tap, algorithm.input_shape) / 1e9
