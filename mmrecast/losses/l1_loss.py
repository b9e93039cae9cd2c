"""Absolute differences between two activations."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmrecast.losses.checks import check_reduction, check_same_shape
from mmrecast.registry import MODELS

__all__ = ['L1Loss']


@MODELS.register_module()
class L1Loss(nn.Module):
    """|s − t|, by default its mean over all elements.

    Names, defaults and numbers are those of MMRazor, without torch's deprecated ``size_average`` and ``reduce``.

    Args:
        loss_weight (float): What the result is multiplied with. Defaults to 1.0.
        reduction (str): 'mean', 'sum', or 'none' for the elements themselves. Defaults to 'mean'.

    Raises:
        ValueError: ``reduction`` is another.
    """

    def __init__(self, loss_weight: float = 1.0, reduction: str = 'mean') -> None:
        super().__init__()
        check_reduction(self, reduction, ('none', 'mean', 'sum'))
        self.loss_weight = loss_weight
        self.reduction = reduction

    def forward(self, s_feature: Tensor, t_feature: Tensor) -> Tensor:
        """Return the weighted loss, a scalar; with ``reduction='none'`` of the shape of the features.

        Args:
            s_feature (Tensor): The student's tensor, of any shape.
            t_feature (Tensor): The teacher's tensor, of the same shape.

        Raises:
            ValueError: The shapes differ: nothing is broadcast.
        """
        check_same_shape(self, s_feature, t_feature)
        return self.loss_weight * F.l1_loss(s_feature, t_feature.detach(), reduction=self.reduction)
