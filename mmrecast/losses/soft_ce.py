"""Cross entropy with the teacher's softened predictions as labels."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmrecast.losses.checks import check_logits, check_positive, check_reduction
from mmrecast.registry import MODELS

__all__ = ['KDSoftCELoss']


@MODELS.register_module()
class KDSoftCELoss(nn.Module):
    """τ² times the cross entropy of softmax(z_s/τ) with labels softmax(z_t/τ) (Hinton et al., 2015: Section 2).

    It differs from ``KLDivergence`` by the entropy of the labels, which has no gradient. Names, defaults and numbers
    are those of MMRazor.

    Args:
        tau (float): Temperature τ. Defaults to 1.0.
        reduction (str): 'mean' or 'sum' over the samples, or 'none'. Defaults to 'mean'.
        mult_tem_square (bool): Whether to multiply with τ². Defaults to True.
        loss_weight (float): What the result is multiplied with. Defaults to 1.0.

    Raises:
        ValueError: ``tau`` is not positive, or ``reduction`` is another.
    """

    def __init__(
        self, tau: float = 1.0, reduction: str = 'mean', mult_tem_square: bool = True, loss_weight: float = 1.0
    ) -> None:
        super().__init__()
        check_positive(self, 'tau', tau)
        check_reduction(self, reduction, ('none', 'mean', 'sum'))
        self.tau = tau
        self.reduction = reduction
        self.mult_tem_square = mult_tem_square
        self.loss_weight = loss_weight

    def forward(self, preds_S: Tensor, preds_T: Tensor) -> Tensor:
        """Return the weighted loss, a scalar; with ``reduction='none'`` one value per sample (N,).

        Args:
            preds_S, preds_T (Tensor): Logits (N, classes) of student and teacher.

        Raises:
            ValueError: The shapes are not these.
        """
        check_logits(self, preds_S, preds_T)
        labels = (preds_T.detach() / self.tau).softmax(1)
        loss = F.cross_entropy(preds_S / self.tau, labels, reduction=self.reduction)
        return self.loss_weight * (self.tau**2 if self.mult_tem_square else 1) * loss
