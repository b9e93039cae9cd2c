"""Channel-wise distillation: each channel's map as a distribution over places."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmrecast.losses.checks import check_positive, check_same_shape
from mmrecast.registry import MODELS

__all__ = ['ChannelWiseDivergence']


@MODELS.register_module()
class ChannelWiseDivergence(nn.Module):
    """KL divergence between the spatial softmaxes of teacher and student, per channel (CWD, Shu et al., ICCV 2021).

    tau² / (N·C) · Σ over images and channels of KL(softmax over places of t / tau ‖ the same of s / tau).

    Args:
        tau (float): Temperature. Defaults to 1.0.
        loss_weight (float): What the loss is multiplied with. Defaults to 1.0.

    Raises:
        ValueError: ``tau`` is not positive.
    """

    def __init__(self, tau: float = 1.0, loss_weight: float = 1.0) -> None:
        super().__init__()
        check_positive(self, 'tau', tau)
        self.tau = tau
        self.loss_weight = loss_weight

    def forward(self, preds_S: Tensor, preds_T: Tensor) -> Tensor:
        """Return the weighted loss, a scalar.

        Args:
            preds_S (Tensor): The student's map (N, C, H, W): a feature, or a segmentation's logits.
            preds_T (Tensor): The teacher's, of the same shape.

        Raises:
            ValueError: The shapes differ or are not (N, C, H, W).
        """
        check_same_shape(self, preds_S, preds_T)
        if preds_S.dim() != 4:
            raise ValueError(f'ChannelWiseDivergence: maps (N, C, H, W) expected, got {tuple(preds_S.shape)}')
        s = F.log_softmax(preds_S.flatten(2) / self.tau, dim=2)  # (N, C, HW)
        t = F.log_softmax(preds_T.detach().flatten(2) / self.tau, dim=2)
        divergence = F.kl_div(s, t, reduction='sum', log_target=True) / s.shape[:2].numel()
        return self.loss_weight * self.tau**2 * divergence
