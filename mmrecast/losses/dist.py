"""Correlation of predictions in place of their equality: DIST."""

import torch
from torch import Tensor, nn

from mmrecast.losses.checks import check_logits, check_positive
from mmrecast.registry import MODELS

__all__ = ['DISTLoss']


@MODELS.register_module()
class DISTLoss(nn.Module):
    """τ² (w_inter (1 − mean ρ of rows) + w_intra (1 − mean ρ of columns)) (Huang et al., NeurIPS 2022).

    ρ is Pearson's correlation between student and teacher of softmax(z/τ): along a row how one sample's classes
    relate, along a column how one class relates the samples of the batch. Names, defaults and numbers are those of
    MMRazor.

    Args:
        inter_loss_weight (float): Weight of the rows. Defaults to 1.0.
        intra_loss_weight (float): Weight of the columns. Defaults to 1.0.
        tau (float): Temperature τ. Defaults to 1.0.
        loss_weight (float): What the result is multiplied with. Defaults to 1.0.
        teacher_detach (bool): Whether no gradient flows to the teacher's predictions. Defaults to True.

    Raises:
        ValueError: ``tau`` is not positive.
    """

    def __init__(
        self,
        inter_loss_weight: float = 1.0,
        intra_loss_weight: float = 1.0,
        tau: float = 1.0,
        loss_weight: float = 1.0,
        teacher_detach: bool = True,
    ) -> None:
        super().__init__()
        check_positive(self, 'tau', tau)
        self.inter_loss_weight = inter_loss_weight
        self.intra_loss_weight = intra_loss_weight
        self.tau = tau
        self.loss_weight = loss_weight
        self.teacher_detach = teacher_detach

    def forward(self, preds_S: Tensor, preds_T: Tensor) -> Tensor:
        """Return the weighted loss, a scalar.

        Args:
            preds_S, preds_T (Tensor): Logits (N, classes) of student and teacher.

        Raises:
            ValueError: The shapes are not these.
        """
        check_logits(self, preds_S, preds_T)
        if self.teacher_detach:
            preds_T = preds_T.detach()
        y_s, y_t = ((z / self.tau).softmax(1) for z in (preds_S, preds_T))
        inter = 1 - _pearson(y_s, y_t, dim=1).mean()
        intra = 1 - _pearson(y_s, y_t, dim=0).mean()
        loss = self.inter_loss_weight * inter + self.intra_loss_weight * intra
        return self.loss_weight * self.tau**2 * loss


def _pearson(a: Tensor, b: Tensor, dim: int) -> Tensor:
    """Return the correlation along ``dim``; 0 where one of them does not vary."""
    a, b = (x - x.mean(dim, keepdim=True) for x in (a, b))
    norms = torch.linalg.vector_norm(a, dim=dim) * torch.linalg.vector_norm(b, dim=dim)
    return (a * b).sum(dim) / (norms + 1e-8)
