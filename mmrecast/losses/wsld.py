"""Weighted soft labels: distil less where the student already knows better than the teacher."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmrecast.losses.checks import check_logits, check_positive
from mmrecast.registry import MODELS

__all__ = ['WSLD']


@MODELS.register_module()
class WSLD(nn.Module):
    """τ² mean of w · H(softmax(z_t/τ), softmax(z_s/τ)), w = 1 − exp(−CE_s / CE_t) (Zhou et al., ICLR 2021).

    H is the cross entropy of the softened predictions; CE_s and CE_t are those of student and teacher with the label,
    without temperature; w carries no gradient. Names and numbers are those of MMRazor.

    Args:
        tau (float): Temperature τ. Defaults to 1.0.
        loss_weight (float): What the result is multiplied with. Defaults to 1.0.
        num_classes (int | None): Number of classes, to be checked. Defaults to None: as many as the logits have
            (MMRazor has 1000, and fails with others).

    Raises:
        ValueError: ``tau`` is not positive.
    """

    def __init__(self, tau: float = 1.0, loss_weight: float = 1.0, num_classes: int | None = None) -> None:
        super().__init__()
        check_positive(self, 'tau', tau)
        self.tau = tau
        self.loss_weight = loss_weight
        self.num_classes = num_classes

    def forward(self, preds_S: Tensor, preds_T: Tensor, gt_labels: Tensor) -> Tensor:
        """Return the weighted loss, a scalar.

        Args:
            preds_S, preds_T (Tensor): Logits (N, classes) of student and teacher.
            gt_labels (Tensor): Class indices (N,), int64.

        Raises:
            ValueError: The shapes are not these.
        """
        check_logits(self, preds_S, preds_T, gt_labels)
        if self.num_classes not in (None, preds_S.shape[1]):
            raise ValueError(f'WSLD: num_classes={self.num_classes}, but the logits are {tuple(preds_S.shape)}')
        preds_T = preds_T.detach()
        soft = F.cross_entropy(preds_S / self.tau, (preds_T / self.tau).softmax(1), reduction='none')
        ce_s = F.cross_entropy(preds_S.detach(), gt_labels, reduction='none')
        ce_t = F.cross_entropy(preds_T, gt_labels, reduction='none')
        weight = 1 - (-ce_s / (ce_t + 1e-7)).exp()  # (N,)
        return self.loss_weight * self.tau**2 * (weight * soft).mean()
