"""Activation boundaries: which neurons respond, not how strongly."""

import torch
from torch import Tensor

from mmrecast.losses.layerwise import LayerwiseLoss
from mmrecast.registry import MODELS

__all__ = ['ABLoss']


@MODELS.register_module()
class ABLoss(LayerwiseLoss):
    """Σ max(0, m − s)² where t > 0, else Σ max(0, m + s)², times 3 / (1000 N): s is to have t's sign with a margin m.

    The alternative loss of Heo, Lee, Yun and Choi, "Knowledge Transfer via Distillation of Activation Boundaries Formed
    by Hidden Neurons" (AAAI 2019), on pre-activations. The factor 3/1000 is no part of it, but RepDistiller and MMRazor
    have it, and the numbers are those of MMRazor's class of the same name. Of a list of layers each counts half as much
    as the next, as in RepDistiller; MMRazor's configuration says so with a ``loss_weight`` per layer.

    Args:
        loss_weight (float): What the sum is multiplied with. Defaults to 1.0.
        margin (float): m, in units of the pre-activation. Defaults to 1.0.
        layer_decay (float): Weight of a layer over that of the next one. Defaults to 0.5.

    Raises:
        ValueError: ``layer_decay`` is not a positive number.
    """

    def __init__(self, loss_weight: float = 1.0, margin: float = 1.0, layer_decay: float = 0.5) -> None:
        super().__init__(loss_weight, layer_decay)
        self.margin = margin

    def distance(self, s_feature: Tensor, t_feature: Tensor) -> Tensor:
        """See the class."""
        wrong = torch.where(t_feature > 0, -s_feature, s_feature)  # positive: on the wrong side of the boundary
        return (wrong + self.margin).relu().pow(2).sum() * (3 / 1000 / len(s_feature))
