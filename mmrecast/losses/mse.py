"""Mean squared error between two activations or two logits."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmrecast.losses.checks import check_same_shape
from mmrecast.registry import MODELS

__all__ = ['MSELoss']


@MODELS.register_module()
class MSELoss(nn.Module):
    """Mean over all elements of (s − t)² (Network Recasting, AAAI 2019: Eq. 1; on the logits, Eq. 2).

    Args:
        loss_weight (float): What the mean is multiplied with. Defaults to 1.0.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, s_feature: Tensor, t_feature: Tensor) -> Tensor:
        """Return the weighted loss, a scalar.

        Args:
            s_feature (Tensor): The student's tensor, of any shape.
            t_feature (Tensor): The teacher's tensor, of the same shape.

        Raises:
            ValueError: The shapes differ: nothing is broadcast.
        """
        check_same_shape(self, s_feature, t_feature)
        return self.loss_weight * F.mse_loss(s_feature, t_feature)
