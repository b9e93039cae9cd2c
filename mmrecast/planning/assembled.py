"""What plans come to before any training: all their blocks in place by closed forms, measured and judged."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mmpretrain.evaluation import Accuracy
from torch import Tensor, nn

from mmrecast.planning.choice import Choice
from mmrecast.planning.planner import Planner
from mmrecast.utils.modules import untouched


@dataclass(frozen=True)
class Assembled:
    """A plan whose student was put together by its closed forms.

    Args:
        ms (float): The teacher's milliseconds over the measured speed-up.
        speedup (float): Measured beside the teacher.
        loss (float): KL(teacher ‖ student) in nats per judged image.
        top1 (float): Accuracy in per cent.
    """

    ms: float
    speedup: float
    loss: float
    top1: float


def assembled(planner: Planner, choice: Choice, labelled: Sequence[tuple[Tensor, Tensor]]) -> Assembled:
    """Put the student of a choice together and return what it takes and loses.

    Args:
        planner (Planner): Whose choice it is.
        choice (Choice): One candidate per block.
        labelled (Sequence[tuple]): Batches of images (N, C, H, W) and classes (N,) that the accuracy is of.
    """
    plan = planner.measured(choice)
    student = planner.put_together(plan.recipe)
    return Assembled(planner.teacher_ms / plan.speedup, plan.speedup, planner.judge(student), top1(student, labelled))


@torch.no_grad()
def top1(network: nn.Module, labelled: Sequence[tuple[Tensor, Tensor]]) -> float:
    """Return a network's accuracy in per cent.

    Args:
        network (nn.Module): Images → logits (N, classes).
        labelled (Sequence[tuple]): Batches of images (N, C, H, W) and classes (N,).
    """
    with untouched(network):
        logits = torch.cat([network(images) for images, _ in labelled])
    return float(Accuracy.calculate(logits, torch.cat([classes for _, classes in labelled]), topk=(1,))[0][0])


def spread_over(points: Sequence[tuple[float, float, Choice]], number: int) -> list[Choice]:
    """Return the choices of so many points of a frontier in even steps, of those that recast anything."""
    choices = [choice for _, _, choice in points if any(option.what.target is not None for option in choice.options)]
    if number >= len(choices):
        return choices
    return [choices[round((i + 1) * len(choices) / (number + 1)) - 1] for i in range(number)]
