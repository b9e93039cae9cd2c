"""Cross entropy between logits and labels."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmrecast.registry import MODELS

__all__ = ['CrossEntropyLoss']


@MODELS.register_module()
class CrossEntropyLoss(nn.Module):
    """Mean over the batch of −log softmax(z)[label].

    Args:
        loss_weight (float): What the mean is multiplied with. Defaults to 1.0.
        label_smoothing (float): Share of the target spread evenly over all classes, in [0, 1]. Defaults to
            0.0.

    Raises:
        ValueError: ``label_smoothing`` is outside [0, 1].
    """

    def __init__(self, loss_weight: float = 1.0, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f'CrossEntropyLoss: label_smoothing must lie in [0, 1], got {label_smoothing}')
        self.loss_weight = loss_weight
        self.label_smoothing = label_smoothing

    def forward(self, preds_S: Tensor, gt_labels: Tensor) -> Tensor:
        """Return the weighted loss, a scalar.

        Args:
            preds_S (Tensor): The student's logits (N, classes).
            gt_labels (Tensor): Class indices (N,), int64.

        Raises:
            ValueError: The shapes are not (N, classes) and (N,).
        """
        if preds_S.dim() != 2 or gt_labels.shape != preds_S.shape[:1]:
            raise ValueError(
                'CrossEntropyLoss: logits (N, classes) and labels (N,) expected, '
                f'got {tuple(preds_S.shape)} and {tuple(gt_labels.shape)}'
            )
        return self.loss_weight * F.cross_entropy(preds_S, gt_labels, label_smoothing=self.label_smoothing)
