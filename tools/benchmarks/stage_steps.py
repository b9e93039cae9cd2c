"""What a recasting is made of, measured without a run: the step of each sampled stage, its FLOPs and its memory.

A step here is ``train_step`` on a batch of random images: preprocessing, both networks, loss, backward pass and Adam.
The weights are random, which changes neither FLOPs nor memory.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from mmrecast.algorithms import Recasting
from mmrecast.analysis.complexity import count
from mmrecast.registry import MODELS
from mmrecast.stages import Stage
from mmrecast.utils.modules import device_of, get_module

WIDTHS = (16, 32, 64)  # of the CIFAR ResNets
CLASSES = 10
WARMUP, LEAST = 1, 3  # steps before the measured ones, and how many of those at least


@dataclass(frozen=True)
class Memory:
    """Bytes that a step needs, but for what lives within one layer's call.

    Args:
        weights (int): Parameters and buffers of both networks.
        gradients (int): Of the parameters that train.
        optimizer (int): Adam's two moments of them.
        saved (int): What the forward pass keeps for the backward pass, weights aside; each storage once.
        cuda_peak (int, optional): ``torch.cuda.max_memory_allocated`` over a step; None on the CPU.
    """

    weights: int
    gradients: int
    optimizer: int
    saved: int
    cuda_peak: int | None

    @property
    def total(self) -> int:
        """int: What CUDA measured, the sum of the parts on the CPU."""
        return self.cuda_peak or self.weights + self.gradients + self.optimizer + self.saved


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
        if index not in chosen:  # its target is put in place, no more
            algorithm.begin_stage(stage, initialise=False)
            costs.append(StageCost(stage.name, gflops(algorithm)))
            continue
        begun = time.perf_counter()
        algorithm.begin_stage(stage, start_batches(algorithm, algorithm.start_images_of(stage), batch_size))
        wait(algorithm)
        took = time.perf_counter() - begun
        cost = gflops(algorithm)
        algorithm.train()
        ms = step_ms(algorithm, batch, seconds)
        memory, whole = memory_of(algorithm, algorithm.loss, batch), whole_memory(algorithm, batch)
        costs.append(StageCost(stage.name, cost, ms, None if stage.kind == 'finetune' else took, memory, whole))
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


class _Losses(nn.Module):
    """The losses of an algorithm's current stage as a network, whose operators can be counted."""

    def __init__(self, algorithm: Recasting) -> None:
        super().__init__()
        self.student, self.teacher = algorithm.student, algorithm.teacher
        self.__dict__['algorithm'] = algorithm

    def forward(self, images: Tensor) -> None:
        self.algorithm.loss(images, dict(gt_label=torch.zeros(len(images), dtype=torch.int64, device=images.device)))


def gflops(algorithm: Recasting) -> float:
    """Return the FLOPs of a step of the current stage per image, in units of 1e9.

    Backwards, a layer costs its multiplications once for the gradient of its weights, if they train, and once for
    that of its input, if something before it trains.
    """
    losses, mults, behind = _Losses(algorithm), 0, False
    for row in count(losses, algorithm.input_shape, 'imagenet').rows:
        trains = any(p.requires_grad for p in get_module(losses, row.path).parameters())
        mults += row.mults * (1 + trains + behind)
        behind = behind or trains
    return 2 * mults / 1e9


def memory_of(
    algorithm: Recasting, loss: Callable[[Tensor, dict], dict[str, Tensor]], batch: dict[str, Tensor]
) -> Memory:
    """Count what a step on ``loss`` keeps in memory while the parameters train that now require gradients."""
    networks, data = (algorithm.student, algorithm.teacher), algorithm.data_preprocessor(batch, True)
    held = [t for network in networks for t in (*network.parameters(), *network.buffers())]
    weights, kept = {t.untyped_storage().data_ptr(): nbytes(t) for t in held}, {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor.detach()  # the tensor itself would be a cycle

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        total = sum(loss(**data).values())
    saved = sum(size for place, size in kept.items() if place not in weights)
    del total
    trained = [p for p in algorithm.parameters() if p.requires_grad]
    gradients = sum(map(nbytes, trained))
    peak = cuda_peak(trained, lambda: sum(loss(**data).values())) if held[0].is_cuda else None
    return Memory(sum(weights.values()), gradients, 2 * gradients, saved, peak)


def whole_memory(algorithm: Recasting, batch: dict[str, Tensor]) -> Memory:
    """Count the same where both networks run to their logits and all of the student trains."""
    flags = [(p, p.requires_grad) for p in algorithm.student.parameters()]
    algorithm.student.requires_grad_(True)

    def loss(inputs: Tensor, data_samples: dict) -> dict[str, Tensor]:
        with torch.no_grad():
            wanted = algorithm.teacher(inputs)
        return dict(loss=algorithm.kd_loss(algorithm.student(inputs), wanted))

    try:
        return memory_of(algorithm, loss, batch)
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


def cuda_peak(trained: Sequence[Tensor], loss: Callable[[], Tensor]) -> int:
    """Return the most bytes that were allocated during a step of Adam, after a first one that makes its moments."""
    optimizer = torch.optim.Adam(trained, lr=0.0)
    for _ in range(2):
        torch.cuda.reset_peak_memory_stats()
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    peak = torch.cuda.max_memory_allocated()
    optimizer.zero_grad()
    return peak


def nbytes(tensor: Tensor) -> int:
    """Return the bytes of a tensor's elements."""
    return tensor.numel() * tensor.element_size()
