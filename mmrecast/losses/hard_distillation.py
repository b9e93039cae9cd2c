"""Cross entropy with the teacher's decision as the label: DeiT's hard distillation."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmrecast.losses.checks import check_logits
from mmrecast.registry import MODELS

__all__ = ['HardDistillationLoss']


@MODELS.register_module()
class HardDistillationLoss(nn.Module):
    """Mean over the batch of −log softmax(z_s)[argmax z_t] (Touvron et al., ICML 2021: Eq. 3, the teacher's half).

    The numbers are those of MMRazor's ``CrossEntropyLoss``, which here is the one with the labels.

    Args:
        loss_weight (float): What the mean is multiplied with. Defaults to 1.0.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, preds_S: Tensor, preds_T: Tensor) -> Tensor:
        """Return the weighted loss, a scalar.

        Args:
            preds_S, preds_T (Tensor): Logits (N, classes) of student and teacher.

        Raises:
            ValueError: The shapes are not these.
        """
        check_logits(self, preds_S, preds_T)
        return self.loss_weight * F.cross_entropy(preds_S, preds_T.argmax(1))
