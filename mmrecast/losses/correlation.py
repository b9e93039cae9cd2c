"""Correlation congruence: the gap between student and teacher, from one image of a batch to the next."""

from torch import Tensor, nn

from mmrecast.registry import MODELS

__all__ = ['CCLoss']


@MODELS.register_module()
class CCLoss(nn.Module):
    """Mean over neighbouring images of δ_i · δ_{i+1} with δ = |s − t|.

    Peng et al., "Correlation Congruence for Knowledge Distillation" (ICCV 2019), as RepDistiller has it from the
    authors; the paper itself compares two correlation matrices. Both sides are embeddings (``LinearEmbed``) that train,
    so the gradient goes to both.

    Args:
        loss_weight (float): What the mean is multiplied with. Defaults to 1.0. (RepDistiller: 0.02.)
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, s_feature: Tensor, t_feature: Tensor) -> Tensor:
        """Return the weighted loss, a scalar; 0 for a batch of one image.

        Args:
            s_feature (Tensor): The student's embedding (N, C).
            t_feature (Tensor): The teacher's (N, C).

        Raises:
            ValueError: The shapes differ or are not (N, C).
        """
        if s_feature.dim() != 2 or s_feature.shape != t_feature.shape:
            raise ValueError(
                f'CCLoss: embeddings (N, C) of one shape expected, the student has {tuple(s_feature.shape)}, '
                f'the teacher {tuple(t_feature.shape)}'
            )
        gap = (s_feature - t_feature).abs()
        return self.loss_weight * (gap[:-1] * gap[1:]).sum() / max(len(gap) - 1, 1)
