"""Kullback-Leibler divergence of softened predictions: Hinton's knowledge distillation."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmrecast.losses.checks import check_positive, check_reduction, check_same_shape
from mmrecast.registry import MODELS

__all__ = ['KLDivergence']

REDUCTIONS = ('none', 'batchmean', 'sum', 'mean')


@MODELS.register_module()
class KLDivergence(nn.Module):
    """τ² KL(softmax(z_t/τ) ‖ softmax(z_s/τ)) over dimension 1 (Hinton et al., 2015: Section 2).

    The factor τ² keeps the size of the gradient where τ changes. Names, defaults and numbers are those of MMRazor.

    Args:
        tau (float): Temperature τ. Defaults to 1.0.
        reduction (str): 'batchmean': the sum divided by N; 'mean': by the number of elements; 'sum'; 'none': the
            elements themselves. Defaults to 'batchmean'.
        loss_weight (float): What the result is multiplied with. Defaults to 1.0.
        teacher_detach (bool): Whether no gradient flows to the teacher's predictions. Data-free distillation, whose
            generator learns through the teacher, sets it to False. Defaults to True.

    Raises:
        ValueError: ``tau`` is not positive, or ``reduction`` is another.
    """

    def __init__(
        self, tau: float = 1.0, reduction: str = 'batchmean', loss_weight: float = 1.0, teacher_detach: bool = True
    ) -> None:
        super().__init__()
        check_positive(self, 'tau', tau)
        check_reduction(self, reduction, REDUCTIONS)
        self.tau = tau
        self.reduction = reduction
        self.loss_weight = loss_weight
        self.teacher_detach = teacher_detach

    def forward(self, preds_S: Tensor, preds_T: Tensor) -> Tensor:
        """Return the weighted loss, a scalar; with ``reduction='none'`` of the shape of the predictions.

        Args:
            preds_S (Tensor): The student's logits (N, classes), or maps of them (N, classes, H, W).
            preds_T (Tensor): The teacher's, of the same shape.

        Raises:
            ValueError: The shapes differ, or have no dimension 1.
        """
        check_same_shape(self, preds_S, preds_T)
        if preds_S.dim() < 2:
            raise ValueError(f'KLDivergence: logits (N, classes, …) expected, got {tuple(preds_S.shape)}')
        if self.teacher_detach:
            preds_T = preds_T.detach()
        log_s = (preds_S / self.tau).log_softmax(1)
        log_t = (preds_T / self.tau).log_softmax(1)
        loss = F.kl_div(log_s, log_t, reduction='none', log_target=True)
        if self.reduction == 'mean':
            loss = loss.mean()
        elif self.reduction != 'none':
            loss = loss.sum() / (len(loss) if self.reduction == 'batchmean' else 1)
        return self.loss_weight * self.tau**2 * loss
