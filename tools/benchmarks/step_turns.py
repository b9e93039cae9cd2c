"""A staged loop whose iterations take turns with other people's steps on the same batches, each of them timed."""

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from mmengine.runner import Runner
from torch import Tensor
from torch.optim import Optimizer

from mmrecast.datasets import TensorDataset
from mmrecast.datasets.crop_flip import draw
from mmrecast.engine import StagedLoop
from mmrecast.registry import DATASETS, LOOPS

OURS, PLAIN, MMRAZOR = 'mmrecast', 'handwritten', 'mmrazor'
CHECKED = 3  # rounds whose losses and weights are compared; they warm up, too
LOSS_TOLERANCE = 1e-4  # relative
WEIGHT_TOLERANCE = 1e-2  # of their change since the start; rounding grows tenfold from step to step


@DATASETS.register_module()
class ImagesToTime(TensorDataset):
    """Random images and labels.

    Args:
        num_images (int): How many.
        shape (tuple[int]): (C, H, W).
        num_classes (int): How many labels there are.
    """

    def __init__(self, num_images: int, shape: Sequence[int], num_classes: int) -> None:
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (num_images, *shape), dtype=np.uint8)
        super().__init__(images, rng.integers(0, num_classes, num_images), [str(n) for n in range(num_classes)])


@LOOPS.register_module()
class TurnsLoop(StagedLoop):
    """A staged loop that takes turns with other steps in the stage that is timed."""

    turns: 'Turns | None' = None

    def run_iter(self, idx: int, data_batch: dict) -> None:
        """Run one iteration and one step of everybody else."""
        step = partial(super().run_iter, idx, data_batch)
        if self.turns is None or self.stage.kind != self.turns.kind:
            step()
        else:
            self.turns.take(self.runner, data_batch, step)


class Turns:
    """Steps in turns, timed.

    Args:
        kind (str): The stage in which they are taken.
        others (Callable): Gives the steps of the others by name, made when the first turn comes. They have an
            ``optimizer``.
        differing (Sequence[str]): Those that compute something else, whose losses and weights are not compared.
    """

    def __init__(self, kind: str, others: Callable[[], dict[str, Callable]], differing: Sequence[str] = ()) -> None:
        self.kind, self._make, self.differing = kind, others, differing
        self.others: dict[str, Callable] = {}
        self.ms: list[dict[str, float]] = []
        self.cpu_ms: list[dict[str, float]] = []
        self.rounds = 0
        self.differences: dict[str, list[float]] = {}

    def take(self, runner: Runner, data: dict, step: Callable[[], None]) -> None:
        """Let everybody take a step on a batch as loaded.

        Raises:
            ValueError: In one of the first rounds, somebody's loss or weights are not ours.
        """
        if not self.others:
            self.others = self._make()
            self._start = [p.detach().clone() for p in parameters(runner.optim_wrapper.optimizer)]
        checked, preprocessor = self.rounds < CHECKED, runner.bare_model.data_preprocessor
        images, labels = data['inputs'], data['gt_label']
        options = (preprocessor.crop_padding, preprocessor.flip)
        choice = draw(preprocessor.seed, preprocessor.epoch, data['sample_idx'], *options)
        batch = (images, labels, choice if checked else None)
        todo = {OURS: step} | {name: partial(other, batch) for name, other in self.others.items()}
        if MMRAZOR in self.others:
            cropped = self.others[PLAIN].augment(images, choice)
            todo[MMRAZOR] = partial(self.others[MMRAZOR], self.others[MMRAZOR].collate(cropped, labels))
        names, ms, cpu_ms, losses = list(todo), {}, {}, {}
        first = self.rounds % len(names)
        for name in names[first:] + names[:first]:
            cpu, start = time.process_time(), time.perf_counter()
            losses[name] = todo[name]()
            ms[name], cpu_ms[name] = (time.perf_counter() - start) * 1000, (time.process_time() - cpu) * 1000
        self.rounds += 1
        if checked:
            losses[OURS] = runner.message_hub.get_scalar('train/loss').current()
            self._check(runner.optim_wrapper.optimizer, {name: float(loss) for name, loss in losses.items()})
        else:
            self.ms.append(ms)
            self.cpu_ms.append(cpu_ms)

    def _check(self, optimizer: Optimizer, losses: dict[str, float]) -> None:
        own, start = parameters(optimizer), vector(self._start)
        moved = (vector(own) - start).norm()
        for name in [name for name in self.others if name not in self.differing]:
            other = self.others[name]
            found = [p for p in parameters(other.optimizer) if p in other.optimizer.state]  # it has had a gradient
            if [p.shape for p in found] != [p.shape for p in own]:
                raise ValueError(f'the {name} loop trains {len(found)} parameters, mmrecast {len(own)}')
            of_loss = abs(losses[name] / losses[OURS] - 1)
            of_weights = float((vector(found) - vector(own)).norm() / moved)
            former = self.differences.get(name, [0.0, 0.0])
            self.differences[name] = [max(former[0], of_loss), max(former[1], of_weights)]
            if not (of_loss <= LOSS_TOLERANCE and of_weights <= WEIGHT_TOLERANCE):
                raise ValueError(
                    f'step {self.rounds} of the {name} loop: loss {losses[name]:.6g}, weights off by {of_weights:.2g} '
                    f'of their change; mmrecast has loss {losses[OURS]:.6g}: they do not compute the same'
                )


def parameters(optimizer: Optimizer) -> list[Tensor]:
    """Return what an optimiser has to train."""
    return [p for group in optimizer.param_groups for p in group['params']]


def vector(tensors: Sequence[Tensor]) -> Tensor:
    """Return tensors as one vector."""
    return torch.cat([t.detach().flatten() for t in tensors])
