"""Relational knowledge distillation: distances and angles among the images of a batch."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmrecast.losses.pairs import rows, unit
from mmrecast.registry import MODELS

__all__ = ['AngleWiseRKD', 'DistanceWiseRKD']

MIN_SQUARE = 1e-12
"""float: Squared distances are at least this, so that the root has a gradient."""


class _RelationalLoss(nn.Module):
    """Smooth L1 between what the student and the teacher see among the images of a batch.

    Args:
        loss_weight (float): What the mean is multiplied with.
        with_l2_norm (bool): Divide every image's features by their L2 norm first.
    """

    def __init__(self, loss_weight: float, with_l2_norm: bool) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.with_l2_norm = with_l2_norm

    def forward(self, preds_S: Tensor, preds_T: Tensor) -> Tensor:
        """Return the weighted loss, a scalar; 0 for a batch of one image.

        Args:
            preds_S (Tensor): The student's features (N, …), flattened per image.
            preds_T (Tensor): The teacher's (N, …); only N must agree.

        Raises:
            ValueError: The numbers of images differ.
        """
        student, teacher = rows(self, preds_S, preds_T)  # (N, C_s), (N, C_t)
        if self.with_l2_norm:
            student, teacher = unit(student, 1), unit(teacher, 1)
        return self.loss_weight * F.smooth_l1_loss(self.relations(student), self.relations(teacher))

    def relations(self, features: Tensor) -> Tensor:
        """Return what is compared, from (N, C)."""
        raise NotImplementedError


@MODELS.register_module()
class DistanceWiseRKD(_RelationalLoss):
    """Smooth L1 between the pairwise distances d_ij / mean(d) of student and teacher.

    Park et al., "Relational Knowledge Distillation" (CVPR 2019, section 3.2.1). The mean is over all N² pairs, those of
    an image with itself among them. Names, defaults and numbers are MMRazor's; with ``with_l2_norm=False`` the numbers
    are RepDistiller's.

    Args:
        loss_weight (float): What the mean is multiplied with. Defaults to 25.0.
        with_l2_norm (bool): Divide every image's features by their L2 norm first. Defaults to True.
    """

    def __init__(self, loss_weight: float = 25.0, with_l2_norm: bool = True) -> None:
        super().__init__(loss_weight, with_l2_norm)

    def relations(self, features: Tensor) -> Tensor:
        """Return the distances (N, N) over their mean."""
        n = len(features)
        square = features.pow(2).sum(1)  # (N,)
        distance = (square[:, None] + square - 2 * features @ features.T).clamp(min=MIN_SQUARE).sqrt()
        distance = distance.masked_fill(torch.eye(n, dtype=torch.bool, device=features.device), 0)
        mean = distance.sum() / max(n * (n - 1), 1)
        return distance / mean.clamp(min=MIN_SQUARE**0.5)


@MODELS.register_module()
class AngleWiseRKD(_RelationalLoss):
    """Smooth L1 between the cosines of the angles ∠jik of all triples of images.

    Park et al., "Relational Knowledge Distillation" (CVPR 2019, section 3.2.2). The mean is over all N³ triples, those
    with a repeated image (cosine 0 or 1) among them. Names, defaults and numbers are MMRazor's; with
    ``with_l2_norm=False`` the numbers are RepDistiller's. Where two images have the very same features, the direction
    between them has no gradient here (MMRazor's is of the order of 1e12).

    Args:
        loss_weight (float): What the mean is multiplied with. Defaults to 50.0.
        with_l2_norm (bool): Divide every image's features by their L2 norm first. Defaults to True.
    """

    def __init__(self, loss_weight: float = 50.0, with_l2_norm: bool = True) -> None:
        super().__init__(loss_weight, with_l2_norm)

    def relations(self, features: Tensor) -> Tensor:
        """Return the cosines (N, N, N): at image i between images j and k."""
        directions = unit(features[None] - features[:, None], 2)  # (N, N, C)
        return directions @ directions.transpose(1, 2)
