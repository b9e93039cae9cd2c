"""Factor Transfer's comparison of two factors."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmrecast.losses.checks import check_same_shape
from mmrecast.registry import MODELS

__all__ = ['FTLoss']


@MODELS.register_module()
class FTLoss(nn.Module):
    """Mean over all elements of |F_s/‖F_s‖ − F_t/‖F_t‖|, each image's whole factor having L2 norm 1.

    L_FT of Kim, Park and Kwak, "Paraphrasing Complex Network: Network Compression via Factor Transfer" (NeurIPS 2018),
    with p = 1 and, as in the authors' code, the mean in place of the norm. MMRazor's class of the same name computes
    the same. The mean makes the term small, at most 2/√n for a factor of n elements per image: hence β = 500.

    Args:
        loss_weight (float): What the mean is multiplied with, the paper's β. Defaults to 1.0.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, s_feature: Tensor, t_feature: Tensor) -> Tensor:
        """Return the weighted loss, a scalar.

        Args:
            s_feature (Tensor): The student's factor (N, C, H, W), the output of the translator.
            t_feature (Tensor): The teacher's factor, of the same shape, the output of the paraphraser.

        Raises:
            ValueError: The shapes differ, or there is nothing but the batch to normalise.
        """
        check_same_shape(self, s_feature, t_feature)
        if s_feature.dim() < 2:
            raise ValueError(f'FTLoss: factors (N, C, H, W) expected, got {tuple(s_feature.shape)}')
        s, t = (F.normalize(x.flatten(1), dim=1) for x in (s_feature, t_feature.detach()))  # (N, C·H·W)
        return self.loss_weight * F.l1_loss(s, t)
