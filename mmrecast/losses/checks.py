"""What losses refuse: shapes that do not fit, and arguments out of range."""

import math
from collections.abc import Sequence
from numbers import Real

from torch import Tensor, nn

from mmrecast.utils.names import nearest


def check_same_shape(loss: nn.Module, student: Tensor, teacher: Tensor) -> None:
    """Compare the shapes of both sides: nothing is broadcast.

    Args:
        loss (nn.Module): Who asks, for the message.
        student, teacher (Tensor): What is compared.

    Raises:
        ValueError: The shapes differ.
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f'{type(loss).__name__}: the student has {tuple(student.shape)}, the teacher {tuple(teacher.shape)}; '
            'the shapes must agree'
        )


def check_logits(loss: nn.Module, preds_S: Tensor, preds_T: Tensor, gt_labels: Tensor | None = None) -> None:
    """Compare the shapes of both sides' logits and of the labels.

    Args:
        loss (nn.Module): Who asks, for the message.
        preds_S, preds_T (Tensor): Logits (N, classes) of student and teacher.
        gt_labels (Tensor, optional): Class indices (N,). Defaults to None: the loss needs none.

    Raises:
        ValueError: The logits are not both (N, classes), or the labels are not (N,).
    """
    check_same_shape(loss, preds_S, preds_T)
    if preds_S.dim() != 2:
        raise ValueError(f'{type(loss).__name__}: logits (N, classes) expected, got {tuple(preds_S.shape)}')
    if gt_labels is not None and gt_labels.shape != preds_S.shape[:1]:
        raise ValueError(
            f'{type(loss).__name__}: logits {tuple(preds_S.shape)} need labels ({len(preds_S)},), '
            f'got {tuple(gt_labels.shape)}'
        )


def check_positive(loss: nn.Module, name: str, value: float) -> None:
    """Check an argument that divides, such as a temperature.

    Raises:
        ValueError: ``value`` is not a positive number.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < value < math.inf:
        raise ValueError(f'{type(loss).__name__}: {name} must be a positive number, got {value!r}')


def check_reduction(loss: nn.Module, reduction: str, offered: Sequence[str]) -> None:
    """Check the name of a reduction.

    Raises:
        ValueError: ``reduction`` is not one of ``offered``.
    """
    if reduction not in offered:
        raise ValueError(
            f'{type(loss).__name__}: reduction must be one of {", ".join(offered)}, '
            f'got {reduction!r}{nearest(str(reduction), offered)}'
        )
