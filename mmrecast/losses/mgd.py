"""The loss of masked generative distillation; the masking and generating is done by ``MGDConnector``."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmrecast.losses.checks import check_same_shape
from mmrecast.registry import MODELS

__all__ = ['MGDLoss']


@MODELS.register_module()
class MGDLoss(nn.Module):
    """Squared difference of generated and teacher's feature, summed, per image (MGD, Yang et al., ECCV 2022).

    Args:
        alpha_mgd (float): Weight of the sum. Defaults to 2e-5 (one-stage detectors).
        loss_weight (float): A further factor. Defaults to 1.0.
    """

    def __init__(self, alpha_mgd: float = 0.00002, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.alpha_mgd = alpha_mgd
        self.loss_weight = loss_weight

    def forward(self, preds_S: Tensor, preds_T: Tensor) -> Tensor:
        """Return the weighted loss, a scalar.

        Args:
            preds_S (Tensor): What ``MGDConnector`` generated from the student's feature (N, C, H, W).
            preds_T (Tensor): The teacher's feature, of the same shape.

        Raises:
            ValueError: The shapes differ.
        """
        check_same_shape(self, preds_S, preds_T)
        total = F.mse_loss(preds_S, preds_T.detach(), reduction='sum')
        return self.loss_weight * self.alpha_mgd * total / preds_S.shape[0]
