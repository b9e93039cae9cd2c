"""Similarity-preserving distillation: which images of a batch excite a network alike."""

from torch import Tensor, nn

from mmrecast.losses.pairs import rows, unit
from mmrecast.registry import MODELS

__all__ = ['SPLoss']


@MODELS.register_module()
class SPLoss(nn.Module):
    """‖G_s − G_t‖² / N² with G = F Fᵀ, F having one row per image, and each row of G divided by its L2 norm.

    Tung and Mori, "Similarity-Preserving Knowledge Distillation" (ICCV 2019). The numbers are RepDistiller's, which the
    author checked.

    Args:
        loss_weight (float): What the sum is multiplied with. Defaults to 1.0. (RepDistiller: 3000.)
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, s_feature: Tensor, t_feature: Tensor) -> Tensor:
        """Return the weighted loss, a scalar.

        Args:
            s_feature (Tensor): The student's features (N, …), flattened per image.
            t_feature (Tensor): The teacher's (N, …); only N must agree.

        Raises:
            ValueError: The numbers of images differ.
        """
        student, teacher = rows(self, s_feature, t_feature)  # (N, C_s), (N, C_t)
        difference = unit(student @ student.T, 1) - unit(teacher @ teacher.T, 1)  # (N, N)
        return self.loss_weight * difference.pow(2).mean()
