"""Overhaul of feature distillation: the partial L2 distance."""

import torch
from torch import Tensor

from mmrecast.losses.checks import check_positive
from mmrecast.losses.layerwise import LayerwiseLoss
from mmrecast.registry import MODELS

__all__ = ['OFDLoss']


@MODELS.register_module()
class OFDLoss(LayerwiseLoss):
    """Σ (s − t)² over the elements with s > t or t > 0, divided by N and by ``mul_factor``.

    The partial L2 distance of Heo, Kim, Yun, Park, Kwak and Choi, "A Comprehensive Overhaul of Feature Distillation"
    (ICCV 2019): where the teacher does not respond, the student need only stay below it. The divisor is no part of it;
    the numbers are those of MMRazor's class of the same name. Of a list of layers each counts half as much as the next,
    as in mdistiller; MMRazor's configuration says so with a ``loss_weight`` per layer.

    Args:
        loss_weight (float): What the sum is multiplied with. Defaults to 1.0.
        mul_factor (float): What the sum is divided by. Defaults to 1000.0.
        layer_decay (float): Weight of a layer over that of the next one. Defaults to 0.5.

    Raises:
        ValueError: ``mul_factor`` or ``layer_decay`` is not a positive number.
    """

    def __init__(self, loss_weight: float = 1.0, mul_factor: float = 1000.0, layer_decay: float = 0.5) -> None:
        super().__init__(loss_weight, layer_decay)
        check_positive(self, 'mul_factor', mul_factor)
        self.mul_factor = mul_factor

    def distance(self, s_feature: Tensor, t_feature: Tensor) -> Tensor:
        """See the class; ``t_feature`` has passed the margin ReLU."""
        difference = s_feature - t_feature
        counted = torch.where(t_feature > 0, difference, difference.relu())
        return counted.pow(2).sum() / len(s_feature) / self.mul_factor
