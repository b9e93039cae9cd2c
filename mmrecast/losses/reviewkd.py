"""Knowledge review: maps of student and teacher compared at several scales."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmrecast.registry import MODELS

__all__ = ['HCLoss']

SCALES = (4, 2, 1)
"""tuple[int, ...]: Heights and widths that maps are averaged down to."""


@MODELS.register_module()
class HCLoss(nn.Module):
    """Hierarchical context loss: MSE between maps at several scales, summed over the taps.

    Chen et al., "Distilling Knowledge via Knowledge Review" (CVPR 2021), HCL. For each pair of maps the MSE at full
    size counts 1, and at 4x4, 2x2 and 1x1, as far as these are smaller, ½, ¼ and ⅛; the sum is divided by that of the
    shares. The numbers are the authors' and mdistiller's.

    Args:
        loss_weight (float): What the sum is multiplied with. Defaults to 1.0.
    """

    takes_list = True

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, s_feature: Tensor | list[Tensor], t_feature: Tensor | list[Tensor]) -> Tensor:
        """Return the weighted loss, a scalar.

        Args:
            s_feature (Tensor | list[Tensor]): The student's maps (N, C, H, W) or vectors (N, C), fused
                (``ABFConnector``).
            t_feature (Tensor | list[Tensor]): The teacher's, of the same shapes.

        Raises:
            ValueError: The two lists are not of one length, or the shapes of a pair differ.
        """
        students, teachers = ([x] if isinstance(x, Tensor) else x for x in (s_feature, t_feature))
        if len(students) != len(teachers):
            raise ValueError(f'HCLoss: {len(students)} maps of the student, {len(teachers)} of the teacher')
        return self.loss_weight * sum(_in_context(*pair) for pair in zip(students, teachers, strict=True))


def _in_context(student: Tensor, teacher: Tensor) -> Tensor:
    student, teacher = (x[..., None, None] if x.dim() == 2 else x for x in (student, teacher.detach()))
    if student.dim() != 4 or student.shape != teacher.shape:
        raise ValueError(
            f'HCLoss: the student has {tuple(student.shape)}, the teacher {tuple(teacher.shape)}; maps (N, C, H, W) of '
            'one shape expected'
        )
    total, share, shares = F.mse_loss(student, teacher), 1.0, 1.0
    for size in SCALES:
        if size < min(student.shape[2:]):
            share /= 2
            shares += share
            pooled = (F.adaptive_avg_pool2d(x, size) for x in (student, teacher))
            total = total + share * F.mse_loss(*pooled)
    return total / shares
