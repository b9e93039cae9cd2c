"""Attention transfer: where the two networks look."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmrecast.losses.pairs import same_size
from mmrecast.registry import MODELS

__all__ = ['ATLoss']


@MODELS.register_module()
class ATLoss(nn.Module):
    """Mean of (q_s − q_t)², q being the mean over the channels of A² as a vector of L2 norm 1 per image.

    Zagoruyko and Komodakis, "Paying More Attention to Attention" (ICLR 2017), with the sum of squares as attention and
    the mean of squares in place of the norm of the difference, as in RepDistiller, mdistiller and MMRazor. The channels
    may differ in number. Maps of different sizes are averaged down to the smaller height and width, as in RepDistiller;
    MMRazor's class of the same name, whose numbers these are, refuses them.

    Args:
        loss_weight (float): What the mean is multiplied with. Defaults to 1.0.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, s_feature: Tensor, t_feature: Tensor) -> Tensor:
        """Return the weighted loss, a scalar.

        Args:
            s_feature (Tensor): The student's map (N, C, H, W).
            t_feature (Tensor): The teacher's map (N, C', H', W').

        Raises:
            ValueError: These are no maps of the same N images.
        """
        s, t = (_attention(x) for x in same_size(self, s_feature, t_feature))
        return self.loss_weight * F.mse_loss(s, t)


def _attention(feature: Tensor) -> Tensor:
    return F.normalize(feature.pow(2).mean(1).flatten(1), dim=1)  # (N, H·W)
