"""What a shallow exit of BYOT learns from: the labels, the deepest logits and the deepest feature."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmrecast.registry import MODELS

__all__ = ['BYOTLoss']


@MODELS.register_module()
class BYOTLoss(nn.Module):
    """Loss of one shallow exit (Zhang et al., Be Your Own Teacher, ICCV 2019: its loss sources 1 to 3).

    ::

          label_weight · CE(z, y)
        + logit_weight · T² KL(softmax(z_deep / T) ‖ softmax(z / T))
        + feature_weight · ‖f − f_deep‖

    The defaults are the weights of MMRazor's configuration and of the authors, who leave out T². The norm is that of
    the whole batch (``torch.dist``), as in both; the paper squares it.

    Args:
        label_weight (float): Defaults to 0.7.
        logit_weight (float): Defaults to 0.3.
        feature_weight (float): 0 for the exit next to the deepest one, whose feature both leave alone.
            Defaults to 0.03.
        tau (float): The temperature T. Defaults to 3.0.
        loss_weight (float): What the whole is multiplied with. Defaults to 1.0.

    Raises:
        ValueError: ``tau`` is not positive.
    """

    takes_list = True

    def __init__(
        self,
        label_weight: float = 0.7,
        logit_weight: float = 0.3,
        feature_weight: float = 0.03,
        tau: float = 3.0,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if not tau > 0:
            raise ValueError(f'BYOTLoss: tau must be larger than 0, got {tau}')
        self.label_weight, self.logit_weight, self.feature_weight = label_weight, logit_weight, feature_weight
        self.tau = tau
        self.loss_weight = loss_weight

    def forward(self, s: Sequence[Tensor], t: Sequence[Tensor], gt_labels: Tensor) -> Tensor:
        """Return the weighted loss, a scalar.

        Args:
            s (list[Tensor]): The exit's feature (N, C) and logits (N, classes), as a ``BYOTConnector`` gives them.
            t (list[Tensor]): The deepest feature and logits, of the same shapes.
            gt_labels (Tensor): Class indices (N,), int64.

        Raises:
            ValueError: These are not two pairs of equal shapes, or the labels do not fit the logits.
        """
        shapes = [[tuple(x.shape) for x in side] if isinstance(side, list | tuple) else side.shape for side in (s, t)]
        if not all(isinstance(side, list | tuple) and len(side) == 2 for side in (s, t)) or shapes[0] != shapes[1]:
            raise ValueError(
                "BYOTLoss: [feature, logits] of an exit (connector=dict(type='BYOTConnector')) and of the deepest "
                f"layer (teacher=['penultimate', 'logits']) expected, of equal shapes, got {shapes[0]} and {shapes[1]}"
            )
        (feature, logits), (deep_feature, deep_logits) = s, (x.detach() for x in t)
        if logits.dim() != 2 or gt_labels.shape != logits.shape[:1]:
            raise ValueError(
                'BYOTLoss: logits (N, classes) and labels (N,) expected, '
                f'got {tuple(logits.shape)} and {tuple(gt_labels.shape)}'
            )
        log_p, q = (logits / self.tau).log_softmax(1), (deep_logits / self.tau).softmax(1)
        loss = self.label_weight * F.cross_entropy(logits, gt_labels)
        loss = loss + self.logit_weight * self.tau**2 * F.kl_div(log_p, q, reduction='batchmean')
        if self.feature_weight:
            loss = loss + self.feature_weight * torch.linalg.vector_norm(feature - deep_feature)
        return self.loss_weight * loss
