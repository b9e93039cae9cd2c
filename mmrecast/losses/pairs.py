"""What losses do to a pair of activations before they compare it."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def rows(loss: nn.Module, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Return each side as one row per image; the teacher's carries no gradient.

    Args:
        loss (nn.Module): Who asks, for the message.
        student, teacher (Tensor): (N, …); the rest of the shapes may differ.

    Returns:
        tuple[Tensor, Tensor]: (N, C_s) and (N, C_t).

    Raises:
        ValueError: The two are not of the same N images, or have no features.
    """
    if student.dim() < 2 or teacher.dim() < 2 or len(student) != len(teacher):
        raise ValueError(
            f'{type(loss).__name__}: features (N, …) of the same N images expected, the student has '
            f'{tuple(student.shape)}, the teacher {tuple(teacher.shape)}'
        )
    return student.flatten(1), teacher.detach().flatten(1)


def same_size(loss: nn.Module, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Return two maps of one size, averaged down to the smaller height and width; the teacher's carries no gradient.

    Args:
        loss (nn.Module): Who asks, for the message.
        student, teacher (Tensor): (N, C, H, W); channels and sizes may differ.

    Raises:
        ValueError: They are no maps of the same N images.
    """
    if student.dim() != 4 or teacher.dim() != 4 or len(student) != len(teacher):
        raise ValueError(
            f'{type(loss).__name__}: maps (N, C, H, W) of the same N images expected, the student has '
            f'{tuple(student.shape)}, the teacher {tuple(teacher.shape)}'
        )
    size = tuple(map(min, student.shape[2:], teacher.shape[2:]))
    pair = (student, teacher.detach())
    return tuple(x if tuple(x.shape[2:]) == size else F.adaptive_avg_pool2d(x, size) for x in pair)


def unit(x: Tensor, dim: int, eps: float = 0.0) -> Tensor:
    """Return ``x`` / (its L2 norm along ``dim`` + eps); a zero vector stays zero and has no gradient.

    Args:
        x (Tensor): Of any shape.
        dim (int): Along which the norm is taken.
        eps (float): Defaults to 0.0.
    """
    norm = torch.linalg.vector_norm(x, dim=dim, keepdim=True)
    return x / (norm + eps).masked_fill(norm == 0, math.inf)
