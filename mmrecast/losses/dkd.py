"""Decoupled knowledge distillation: the target's class and the other classes apart."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmrecast.losses.checks import check_logits, check_positive, check_reduction
from mmrecast.losses.kl_divergence import REDUCTIONS
from mmrecast.registry import MODELS

__all__ = ['DKDLoss']


@MODELS.register_module()
class DKDLoss(nn.Module):
    """α TCKD + β NCKD, both times τ² (Zhao et al., CVPR 2022: Eq. 7).

    With softened predictions p, TCKD = KL(b_t ‖ b_s) of the pairs b = (p[label], 1 − p[label]), and
    NCKD = KL(q_t ‖ q_s) of the predictions q over the other classes alone.

    Names, defaults and numbers are those of MMRazor, and with them an oddity: 'mean' and 'none' sum over the batch,
    too. The paper's loss is that of 'batchmean'.

    Args:
        tau (float): Temperature τ. Defaults to 1.0.
        alpha (float): Weight α of the target's class. Defaults to 1.0.
        beta (float): Weight β of the other classes. Defaults to 1.0.
        reduction (str): 'batchmean': the sum divided by N; 'sum', and here likewise 'mean' and 'none': the sum.
            Defaults to 'batchmean'.
        loss_weight (float): What the result is multiplied with. Defaults to 1.0.

    Raises:
        ValueError: ``tau`` is not positive, or ``reduction`` is another.
    """

    def __init__(
        self,
        tau: float = 1.0,
        alpha: float = 1.0,
        beta: float = 1.0,
        reduction: str = 'batchmean',
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        check_positive(self, 'tau', tau)
        check_reduction(self, reduction, REDUCTIONS)
        self.tau = tau
        self.alpha = alpha
        self.beta = beta
        self.reduction = reduction
        self.loss_weight = loss_weight

    def forward(self, preds_S: Tensor, preds_T: Tensor, gt_labels: Tensor) -> Tensor:
        """Return the weighted loss, a scalar.

        Args:
            preds_S, preds_T (Tensor): Logits (N, classes) of student and teacher.
            gt_labels (Tensor): Class indices (N,), int64.

        Raises:
            ValueError: The shapes are not these.
        """
        check_logits(self, preds_S, preds_T, gt_labels)
        pair_s, others_s = self._decoupled(preds_S, gt_labels)
        pair_t, others_t = self._decoupled(preds_T.detach(), gt_labels)
        tckd = F.kl_div(pair_s, pair_t, reduction='sum', log_target=True)
        nckd = F.kl_div(others_s, others_t, reduction='sum', log_target=True)
        loss = self.tau**2 * (self.alpha * tckd + self.beta * nckd)
        return self.loss_weight * (loss / len(preds_S) if self.reduction == 'batchmean' else loss)

    def _decoupled(self, preds: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return log (p[label], 1 − p[label]) (N, 2) and log q (N, classes − 1), never −inf."""
        z, labels = preds / self.tau, labels[:, None]
        index = torch.arange(z.shape[1] - 1, device=z.device)
        others = z.gather(1, index + (index >= labels).long())  # every class but the label
        pair = torch.cat([z.gather(1, labels), others.logsumexp(1, keepdim=True)], 1)
        return pair.log_softmax(1), others.log_softmax(1)
